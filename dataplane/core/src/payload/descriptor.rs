//! The dependency descriptor, an RTP header extension that tells each frame's layers and dependencies without a look
//! into the payload (AV1 RTP specification, appendix A).

use super::PacketInfo;
use super::bits::{BitReader, BitWriter};
use crate::wire::Malformed;

mod structure;

use structure::{MAX_SPATIAL, Structure};

/// start_of_frame, end_of_frame, frame_dependency_template_id, frame_number.
const MANDATORY_BITS: usize = 24;
const CUT: Malformed = Malformed("the dependency descriptor is cut off");

/// What a frame is for a decode target (table A.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dti {
    /// Not part of it.
    NotPresent,
    /// Part of it, and no other frame of it refers to this one.
    Discardable,
    /// All later frames of it can be decoded where this one can.
    Switch,
    /// Part of it, and neither of the above.
    Required,
}

/// The indications of all decode targets, two bits each, target 0 lowest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Dtis(u64);

impl Dtis {
    /// Reads as many as there are targets, at most 32.
    fn read(bits: &mut BitReader<'_>, targets: u32) -> Option<Self> {
        (0..targets).try_fold(Self(0), |dtis, target| Some(Self(dtis.0 | u64::from(bits.read(2)?) << (2 * target))))
    }

    const fn get(self, target: u32) -> Dti {
        match self.0.unbounded_shr(2 * target) & 3 {
            0 => Dti::NotPresent,
            1 => Dti::Discardable,
            2 => Dti::Switch,
            _ => Dti::Required,
        }
    }
}

/// One packet's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The frame begins with this packet.
    pub first_packet: bool,
    /// The frame ends with this packet; frames of higher spatial layers of the same moment may follow.
    pub last_packet: bool,
    /// Ascends in decoding order, modulo 2^16.
    pub frame_number: u16,
    /// The frame's spatial layer.
    pub spatial: u8,
    /// The frame's temporal layer.
    pub temporal: u8,
    /// The packet carries a template structure: a coded video sequence begins.
    pub has_structure: bool,
    /// The frame refers to no other frame.
    pub is_key: bool,
    /// How many decode targets there are, 1 to 32.
    pub decode_targets: u32,
    /// The largest width and height in pixels of each spatial layer, lowest first, where the structure tells them.
    pub resolutions: [Option<(u16, u16)>; MAX_SPATIAL],
    /// Bit i is set where decode target i is available: as of the last packet that told it.
    pub active_decode_targets: u32,
    dtis: Dtis,
    /// Decode targets with exactly the frame's layers.
    own_targets: u32,
}

impl Descriptor {
    /// What the frame is for decode target `target`; not present in one that does not exist.
    #[must_use]
    pub const fn dti(&self, target: u32) -> Dti {
        self.dtis.get(target)
    }

    /// True where the targets of exactly this frame's layers may be switched to here.
    fn is_switch(&self) -> bool {
        self.targets().any(|target| self.own_targets >> target & 1 == 1 && self.dti(target) == Dti::Switch)
    }

    fn is_discardable(&self) -> bool {
        self.targets().all(|target| matches!(self.dti(target), Dti::NotPresent | Dti::Discardable))
    }

    fn targets(&self) -> core::ops::Range<u32> {
        0..self.decode_targets
    }
}

/// Overrides what the payload told by what the descriptor tells: layers, the ends of the frame, and what may be dropped.
pub fn apply(descriptor: &Descriptor, info: &mut PacketInfo) {
    info.begins_frame = descriptor.first_packet;
    info.begins_key_frame = descriptor.first_packet && descriptor.has_structure && descriptor.is_key;
    info.ends_spatial_frame = descriptor.last_packet;
    info.temporal = descriptor.temporal;
    info.spatial = descriptor.spatial;
    info.is_layer_sync = descriptor.is_switch() || info.begins_key_frame;
    info.discardable = descriptor.is_discardable();
    if descriptor.first_packet && descriptor.is_key {
        info.size = descriptor.resolutions.get(usize::from(descriptor.spatial)).copied().flatten().or(info.size);
    }
}

/// Reads the descriptors of one stream: keeps the last template structure, to which later packets refer, and which
/// decode targets are active.
#[derive(Debug, Clone, Default)]
pub struct DependencyDescriptorReader {
    structure: Option<Structure>,
    active: u32,
}

/// What a descriptor says, and where in it the bitmask of active decode targets goes. Positions are in bits.
struct Reading {
    descriptor: Descriptor,
    has_flags: bool,
    structure: Option<Structure>,
    mask_at: usize,
    has_mask: bool,
    end: usize,
}

/// The flags of extended_descriptor_fields.
#[derive(Default)]
struct Flags {
    has_structure: bool,
    has_mask: bool,
    has_dtis: bool,
    has_fdiffs: bool,
    has_chains: bool,
}

impl Flags {
    fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        Some(Self {
            has_structure: bits.flag()?,
            has_mask: bits.flag()?,
            has_dtis: bits.flag()?,
            has_fdiffs: bits.flag()?,
            has_chains: bits.flag()?,
        })
    }
}

impl DependencyDescriptorReader {
    /// A reader that has seen no structure yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one packet's extension, and takes over the structure in it. Where it fails, nothing is taken over.
    ///
    /// # Errors
    /// [`Malformed`] for a descriptor that is cut off or beyond 4 spatial or 8 temporal layers or 64 templates, and for
    /// one that refers to a template of no structure seen: the structure was lost, or is still on its way.
    pub fn read(&mut self, extension: &[u8]) -> Result<Descriptor, Malformed> {
        let reading = self.parse(extension)?;
        self.active = reading.descriptor.active_decode_targets;
        if reading.structure.is_some() {
            self.structure = reading.structure;
        }
        Ok(reading.descriptor)
    }

    /// The decode targets that need no layer above `spatial` and `temporal`, bit i for target i: what is left active for
    /// a receiver that gets no more.
    #[must_use]
    pub fn targets_up_to(&self, spatial: u8, temporal: u8) -> u32 {
        let within = |layers: (u8, u8)| layers.0 <= spatial && layers.1 <= temporal;
        self.structure.as_ref().map_or(0, |structure| structure.targets_where(within))
    }

    /// Writes the descriptor `extension` to `out` with `active` as its bitmask of active decode targets, and gives its
    /// length in bytes. `None` for what [`Self::read`] refuses, and where `out` is too short: up to 5 bytes are added.
    #[must_use]
    pub fn write_active_targets(&self, extension: &[u8], active: u32, out: &mut [u8]) -> Option<usize> {
        let reading = self.parse(extension).ok()?;
        let targets = reading.descriptor.decode_targets;
        let mut from = BitReader::new(extension);
        let mut to = BitWriter::new(out);
        to.copy(&mut from, MANDATORY_BITS)?;
        if reading.has_flags {
            to.copy(&mut from, 1)?;
            to.flag(true)?;
            from.skip(1)?;
            to.copy(&mut from, reading.mask_at - MANDATORY_BITS - 2)?;
        } else {
            to.write(0b01000, 5)?;
        }
        to.write(active, targets)?;
        if reading.has_mask {
            from.skip(usize::try_from(targets).ok()?)?;
        }
        let rest = reading.end - from.position();
        to.copy(&mut from, rest)?;
        Some(to.len())
    }

    fn parse(&self, extension: &[u8]) -> Result<Reading, Malformed> {
        let mut bits = BitReader::new(extension);
        let (first_packet, last_packet) = (bits.flag().ok_or(CUT)?, bits.flag().ok_or(CUT)?);
        let template_id = bits.read(6).ok_or(CUT)?;
        let frame_number = bits.read(16).and_then(|number| u16::try_from(number).ok()).ok_or(CUT)?;
        let has_flags = extension.len() * 8 > MANDATORY_BITS;
        let flags = if has_flags { Flags::read(&mut bits).ok_or(CUT)? } else { Flags::default() };
        let new = if flags.has_structure { Some(Structure::read(&mut bits)?) } else { None };
        let structure = new.as_ref().or(self.structure.as_ref());
        let structure = structure.ok_or(Malformed("no template structure has come yet"))?;
        let mask_at = bits.position();
        let active_decode_targets = if flags.has_mask {
            bits.read(structure.targets).ok_or(CUT)?
        } else if flags.has_structure {
            structure.targets_where(|_| true)
        } else {
            self.active
        };
        let template = structure.template(template_id).ok_or(Malformed("the template is none of the structure"))?;
        let (dtis, is_key) = structure.definition(template, &flags, &mut bits).ok_or(CUT)?;
        let (spatial, temporal) = (template.spatial, template.temporal);
        let descriptor = Descriptor {
            first_packet,
            last_packet,
            frame_number,
            spatial,
            temporal,
            has_structure: flags.has_structure,
            is_key,
            decode_targets: structure.targets,
            resolutions: structure.resolutions,
            active_decode_targets,
            dtis,
            own_targets: structure.targets_where(|layers| layers == (spatial, temporal)),
        };
        let end = bits.position();
        Ok(Reading { descriptor, has_flags, mask_at, has_mask: flags.has_mask, end, structure: new })
    }
}
