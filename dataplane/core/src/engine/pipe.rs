//! Pipes inside a process: how a room spans packet workers that share nothing.
//!
//! The worker that receives a track hands its decrypted packets to the others that have subscribers of it; what those
//! need of the publisher comes back as notices. The socket layer moves both through bounded rings.

use crate::payload::PacketInfo;
use crate::time::Instant;

/// A packet of a track, decrypted and measured, on its way to another worker.
#[derive(Clone, Copy, Debug)]
pub struct PipedPacket<'a> {
    /// Which layer of the track: its place among the rids, 0 without simulcast.
    pub place: u8,
    /// The publisher's SSRC.
    pub ssrc: u32,
    /// The unrolled sequence number.
    pub number: u64,
    /// RTP time stamp.
    pub timestamp: u32,
    /// RTP marker.
    pub marker: bool,
    /// Bytes of RTP padding.
    pub padding: u8,
    /// The byte of RFC 6464, 0xFF where there is none.
    pub level: u8,
    /// The byte of video orientation (3GPP TS 26.114), 0xFF where there is none.
    pub orientation: u8,
    /// The frame number of the dependency descriptor, 0 where there is none.
    pub frame: u16,
    /// What the payload told.
    pub info: PacketInfo,
    /// The dependency descriptor, empty where there is none.
    pub descriptor: &'a [u8],
    /// The payload without padding.
    pub payload: &'a [u8],
}

/// A notice between the ends of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipeNotice {
    /// From the receiving worker: somebody needs a key frame of a layer.
    KeyFrame {
        /// The layer's place.
        place: u8,
    },
    /// From the sending worker: the publisher's sender report of a layer.
    SenderReport {
        /// The layer's place.
        place: u8,
        /// NTP time stamp.
        ntp: u64,
        /// The RTP time stamp of the same moment.
        rtp_timestamp: u32,
        /// When it came.
        arrival: Instant,
    },
}
