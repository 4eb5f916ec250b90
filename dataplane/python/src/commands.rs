//! Commands of the Python port, read by their attributes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parley_core::engine::command::{Command, Credentials, Keys, SetSender, SetTrack, TrackCodec, Want};
use parley_core::payload::Codec;
use parley_core::srtp::Profile;
use parley_core::units::DataRate;
use parley_core::wire::rtp::ExtensionIds;
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

fn text(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Arc<str>> {
    Ok(Arc::from(object.getattr(name)?.extract::<String>()?))
}

fn value<'py, T>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<T>
where
    T: FromPyObjectOwned<'py>,
{
    object.getattr(name)?.extract::<T>().map_err(Into::into)
}

fn keys(object: &Bound<'_, PyAny>) -> PyResult<Keys> {
    let name = text(object, "profile")?;
    let profile = Profile::from_name(&name).ok_or_else(|| PyValueError::new_err("no such SRTP profile"))?;
    Ok(Keys { profile, receive: value(object, "receive_key")?, send: value(object, "send_key")? })
}

fn credentials(object: &Bound<'_, PyAny>) -> PyResult<Credentials> {
    Ok(Credentials { ufrag: text(object, "ice_ufrag")?, pwd: text(object, "ice_pwd")? })
}

fn codec(object: &Bound<'_, PyAny>) -> PyResult<TrackCodec> {
    let codec = object.getattr("codec")?;
    let name = text(&codec, "name")?;
    Ok(TrackCodec {
        codec: Codec::from_name(&name).ok_or_else(|| PyValueError::new_err("no such codec"))?,
        payload_type: value(&codec, "payload_type")?,
        clock_rate: value(&codec, "clock_rate")?,
        rtx_payload_type: value(&codec, "rtx_payload_type")?,
        has_nack: value(&codec, "has_nack")?,
    })
}

fn extensions(object: &Bound<'_, PyAny>) -> PyResult<ExtensionIds> {
    let ids = object.getattr("extensions")?;
    Ok(ExtensionIds {
        mid: value(&ids, "mid")?,
        rid: value(&ids, "rid")?,
        repaired_rid: value(&ids, "repaired_rid")?,
        audio_level: value(&ids, "audio_level")?,
        transport_cc: value(&ids, "transport_cc")?,
        dependency_descriptor: value(&ids, "dependency_descriptor")?,
        orientation: value(&ids, "orientation")?,
        abs_send_time: value(&ids, "abs_send_time")?,
    })
}

fn track(object: &Bound<'_, PyAny>) -> PyResult<SetTrack> {
    Ok(SetTrack {
        transport: text(object, "transport_id")?,
        track: text(object, "track_id")?,
        mid: text(object, "mid")?,
        codec: codec(object)?,
        extensions: extensions(object)?,
        ssrcs: value(object, "ssrcs")?,
        rids: value::<Vec<String>>(object, "rids")?.into_iter().map(Arc::from).collect(),
        is_screen: value(object, "is_screen")?,
    })
}

fn sender(object: &Bound<'_, PyAny>) -> PyResult<SetSender> {
    Ok(SetSender {
        sender: text(object, "sender_id")?,
        transport: text(object, "transport_id")?,
        track: text(object, "track_id")?,
        mid: text(object, "mid")?,
        codec: codec(object)?,
        extensions: extensions(object)?,
        ssrc: value(object, "ssrc")?,
        rtx_ssrc: value(object, "rtx_ssrc")?,
        cname: text(object, "cname")?,
    })
}

fn address(object: &Bound<'_, PyAny>) -> PyResult<SocketAddr> {
    let (host, port): (String, u16) = value(object, "address")?;
    socket_address(&host, port)
}

/// An address of Python's form.
pub fn socket_address(host: &str, port: u16) -> PyResult<SocketAddr> {
    let ip: IpAddr = host.parse().map_err(|_| PyValueError::new_err("not an IP address"))?;
    Ok(SocketAddr::new(ip.to_canonical(), port))
}

fn select_layer(object: &Bound<'_, PyAny>) -> PyResult<Command> {
    Ok(Command::SelectLayer {
        sender: text(object, "sender_id")?,
        rid: value::<Option<String>>(object, "rid")?.map(Arc::from),
        temporal: value(object, "temporal")?,
        strict: value(object, "strict")?,
    })
}

fn want(object: &Bound<'_, PyAny>) -> PyResult<Want> {
    Ok(Want {
        width: value(object, "width")?,
        height: value(object, "height")?,
        visible: value(object, "visible")?,
        pinned: value(object, "pinned")?,
    })
}

/// A command, and the worker that a new transport is to live on.
pub fn read(object: &Bound<'_, PyAny>) -> PyResult<(usize, Command)> {
    let kind = object.get_type().name()?;
    let kind = kind.to_str()?;
    let worker = if matches!(kind, "AddTransport" | "AddPlainTransport") { value(object, "worker")? } else { 0 };
    let transport = || text(object, "transport_id");
    let command = match kind {
        "AddTransport" => Command::AddTransport { transport: transport()?, credentials: credentials(object)? },
        "AddPlainTransport" => {
            Command::AddPlainTransport { transport: transport()?, address: address(object)?, keys: keys(object)? }
        }
        "RestartIce" => Command::RestartIce { transport: transport()?, credentials: credentials(object)? },
        "RemoveTransport" => Command::RemoveTransport { transport: transport()? },
        "SendDtls" => Command::SendDtls { transport: transport()?, datagrams: value(object, "datagrams")? },
        "SetKeys" => Command::SetKeys { transport: transport()?, keys: keys(object)? },
        "SetTrack" => Command::SetTrack(track(object)?),
        "RemoveTrack" => Command::RemoveTrack { track: text(object, "track_id")? },
        "MuteTrack" => Command::MuteTrack { track: text(object, "track_id")?, muted: value(object, "muted")? },
        "SetSender" => Command::SetSender(sender(object)?),
        "RemoveSender" => Command::RemoveSender { sender: text(object, "sender_id")? },
        "PauseSender" => Command::PauseSender { sender: text(object, "sender_id")?, paused: value(object, "paused")? },
        "SelectLayer" => select_layer(object)?,
        "WantTrack" => Command::WantTrack { sender: text(object, "sender_id")?, want: want(object)? },
        "RankTrack" => Command::RankTrack { track: text(object, "track_id")?, rank: value(object, "rank")? },
        "SetLastN" => Command::SetLastN { transport: transport()?, count: value(object, "count")? },
        "CapBandwidth" => {
            let rate = value::<Option<u64>>(object, "bitrate_bps")?.filter(|bps| *bps > 0).map(DataRate::from_bps);
            Command::CapBandwidth { transport: transport()?, rate }
        }
        "DropPairs" => Command::DropPairs { transport: transport()? },
        _ => return Err(PyTypeError::new_err("not a command of the forwarding port")),
    };
    Ok((worker, command))
}
