//! template_dependency_structure, and the frame definitions that refer to it (A.8.2).

use super::{CUT, Dtis, Flags};
use crate::payload::bits::BitReader;
use crate::wire::Malformed;

/// AV1 has four spatial layers (AV1 specification, 5.3.3).
pub(super) const MAX_SPATIAL: usize = 4;
/// AV1 has eight temporal layers.
const MAX_TEMPORAL: u8 = 8;
/// A template's id has six bits.
const MAX_TEMPLATES: usize = 64;
const MAX_TARGETS: usize = 32;

/// What many frames have in common.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Template {
    pub(super) spatial: u8,
    pub(super) temporal: u8,
    dtis: Dtis,
    has_references: bool,
}

/// The templates and decode targets of a coded video sequence. Distances to other frames and chains are read over, as
/// forwarding does not use them.
#[derive(Debug, Clone)]
pub(super) struct Structure {
    id_offset: u32,
    pub(super) targets: u32,
    templates: [Template; MAX_TEMPLATES],
    template_count: usize,
    chains: u32,
    /// Spatial and temporal layer of each decode target.
    layers: [(u8, u8); MAX_TARGETS],
    pub(super) resolutions: [Option<(u16, u16)>; MAX_SPATIAL],
}

impl Structure {
    pub(super) fn read(bits: &mut BitReader<'_>) -> Result<Self, Malformed> {
        let id_offset = bits.read(6).ok_or(CUT)?;
        let targets = bits.read(5).ok_or(CUT)? + 1;
        let mut structure = Self {
            id_offset,
            targets,
            templates: [Template::default(); MAX_TEMPLATES],
            template_count: 0,
            chains: 0,
            layers: [(0, 0); MAX_TARGETS],
            resolutions: [None; MAX_SPATIAL],
        };
        let max_spatial = structure.read_layers(bits)?;
        structure.read_tables(bits).ok_or(CUT)?;
        structure.find_target_layers();
        if bits.flag().ok_or(CUT)? {
            structure.read_resolutions(bits, max_spatial).ok_or(CUT)?;
        }
        Ok(structure)
    }

    /// template_layers(); gives the highest spatial layer.
    fn read_layers(&mut self, bits: &mut BitReader<'_>) -> Result<u8, Malformed> {
        let (mut spatial, mut temporal) = (0, 0);
        loop {
            let template =
                self.templates.get_mut(self.template_count).ok_or(Malformed("there are over 64 templates"))?;
            (template.spatial, template.temporal) = (spatial, temporal);
            self.template_count += 1;
            match bits.read(2).ok_or(CUT)? {
                0 => {}
                1 => temporal += 1,
                2 => (spatial, temporal) = (spatial + 1, 0),
                _ => return Ok(spatial),
            }
            if usize::from(spatial) >= MAX_SPATIAL || temporal >= MAX_TEMPORAL {
                return Err(Malformed("there are over 4 spatial or 8 temporal layers"));
            }
        }
    }

    /// template_dtis(), template_fdiffs(), template_chains().
    fn read_tables(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        let templates = self.templates.get_mut(..self.template_count)?;
        for template in templates.iter_mut() {
            template.dtis = Dtis::read(bits, self.targets)?;
        }
        for template in templates.iter_mut() {
            while bits.flag()? {
                bits.skip(4)?;
                template.has_references = true;
            }
        }
        self.chains = bits.read_below(self.targets + 1)?;
        if self.chains > 0 {
            for _ in 0..self.targets {
                bits.read_below(self.chains)?; // decode_target_protected_by
            }
            bits.skip(4 * templates.len() * usize::try_from(self.chains).ok()?)?;
        }
        Some(())
    }

    /// decode_target_layers().
    fn find_target_layers(&mut self) {
        let templates = self.templates.get(..self.template_count).unwrap_or_default();
        for (target, layers) in (0..self.targets).zip(&mut self.layers) {
            for template in templates.iter().filter(|template| template.dtis.get(target) != super::Dti::NotPresent) {
                *layers = (layers.0.max(template.spatial), layers.1.max(template.temporal));
            }
        }
    }

    fn read_resolutions(&mut self, bits: &mut BitReader<'_>, max_spatial: u8) -> Option<()> {
        let mut side = || Some(u16::try_from(bits.read(16)?).ok()?.saturating_add(1));
        for resolution in self.resolutions.iter_mut().take(usize::from(max_spatial) + 1) {
            *resolution = Some((side()?, side()?));
        }
        Some(())
    }

    pub(super) fn template(&self, id: u32) -> Option<&Template> {
        let index = usize::try_from((id + 64 - self.id_offset) % 64).ok()?;
        self.templates.get(..self.template_count)?.get(index)
    }

    /// A bit for each decode target whose spatial and temporal layer `holds`.
    pub(super) fn targets_where(&self, holds: impl Fn((u8, u8)) -> bool) -> u32 {
        let targets = (0..self.targets).zip(&self.layers);
        targets.filter(|(_, layers)| holds(**layers)).fold(0, |mask, (target, _)| mask | 1 << target)
    }

    /// frame_dependency_definition(): the frame's indications, and whether it refers to no other frame.
    pub(super) fn definition(
        &self,
        template: &Template,
        flags: &Flags,
        bits: &mut BitReader<'_>,
    ) -> Option<(Dtis, bool)> {
        let dtis = if flags.has_dtis { Dtis::read(bits, self.targets)? } else { template.dtis };
        let has_references = if flags.has_fdiffs { frame_fdiffs(bits)? } else { template.has_references };
        if flags.has_chains {
            bits.skip(8 * usize::try_from(self.chains).ok()?)?;
        }
        Some((dtis, !has_references))
    }
}

/// True where there is at least one difference.
fn frame_fdiffs(bits: &mut BitReader<'_>) -> Option<bool> {
    let mut any = false;
    loop {
        let size = bits.read(2)?;
        if size == 0 {
            return Some(any);
        }
        bits.skip(4 * usize::try_from(size).ok()?)?;
        any = true;
    }
}
