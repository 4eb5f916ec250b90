//! What a forwarder reads in media payloads: where frames and key frames begin, their layers and their size, and the
//! VP8 descriptor that it rewrites (RFC 7741, RFC 9628, RFC 6184, the AV1 RTP specification).
//!
//! Everything here is total: of a payload that is too short or malformed, what can be read is told, and the rest is as
//! in [`PacketInfo::default`].

mod av1;
mod bits;
pub mod descriptor;
mod h264;
mod vp8;
mod vp9;

pub use vp8::{Vp8Fields, rewrite as rewrite_vp8};

/// A codec that is forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// The AV1 RTP specification.
    Av1,
    /// Redundant audio (RFC 2198).
    Red,
}

impl Codec {
    /// The codec of an encoding name as our descriptions write it: `opus`, `VP8`, `VP9`, `H264`, `AV1`, `red`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "opus" => Self::Opus,
            "VP8" => Self::Vp8,
            "VP9" => Self::Vp9,
            "H264" => Self::H264,
            "AV1" => Self::Av1,
            "red" => Self::Red,
            _ => return None,
        })
    }

    /// True for pictures, false for sound.
    #[must_use]
    pub const fn is_video(self) -> bool {
        !matches!(self, Self::Opus | Self::Red)
    }
}

/// What one packet tells. With spatial layers a frame is one layer's frame, a picture all layers of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketInfo {
    /// The first packet of a key frame, at which a receiver can start; of the lowest spatial layer. For H.264, which
    /// has no such mark, each packet with a parameter set or the start of an IDR slice.
    pub begins_key_frame: bool,
    /// The first packet of a frame. For H.264 and AV1 without a dependency descriptor: a frame may begin here.
    pub begins_frame: bool,
    /// The last packet of a picture: the marker bit.
    pub ends_frame: bool,
    /// The temporal layer, 0 for the lowest and where none is told.
    pub temporal: u8,
    /// The spatial layer, 0 for the lowest and where none is told.
    pub spatial: u8,
    /// A receiver of lower temporal layers may go on with `temporal` from this frame: VP8's Y, VP9's U, a dependency
    /// descriptor's switch indication, and every key frame.
    pub is_layer_sync: bool,
    /// No other frame depends on it.
    pub discardable: bool,
    /// The fields that a layer switch rewrites; `None` for other codecs and for a descriptor that is cut off.
    pub vp8: Option<Vp8Fields>,
    /// Width and height in pixels of a key frame, of the packet's spatial layer, where this packet tells them.
    pub size: Option<(u16, u16)>,
    /// The last packet of a frame, which for codecs without spatial layers is the picture.
    pub ends_spatial_frame: bool,
}

/// Reads a payload without its RTP padding; `marker` is the packet's.
#[must_use]
pub fn inspect(codec: Codec, payload: &[u8], marker: bool) -> PacketInfo {
    match codec {
        Codec::Opus | Codec::Red => {
            PacketInfo { begins_frame: true, ends_frame: true, ends_spatial_frame: true, ..PacketInfo::default() }
        }
        Codec::Vp8 => vp8::inspect(payload, marker),
        Codec::Vp9 => vp9::inspect(payload, marker),
        Codec::H264 => h264::inspect(payload, marker),
        Codec::Av1 => av1::inspect(payload, marker),
    }
}
