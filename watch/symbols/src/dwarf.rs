//! DWARF in the sections of an image.

use std::rc::Rc;

use addr2line::Context;
use gimli::{EndianReader, LittleEndian};
use object::{Object, ObjectSection};

use crate::SourcePlace;

type Bytes = EndianReader<LittleEndian, Rc<[u8]>>;

pub struct Dwarf {
    /// The base that addresses in the sections are counted with.
    base: u64,
    context: Context<Bytes>,
}

impl Dwarf {
    pub fn read(image: &[u8]) -> Option<Self> {
        let image = object::File::parse(image).ok()?;
        image.section_by_name(".debug_info")?;
        let section = |id: gimli::SectionId| -> Result<Bytes, gimli::Error> {
            let data = image.section_by_name(id.name()).and_then(|section| section.data().ok()).unwrap_or_default();
            Ok(EndianReader::new(Rc::from(data), LittleEndian))
        };
        let context = Context::from_dwarf(gimli::Dwarf::load(section).ok()?).ok()?;
        Some(Self { base: image.relative_address_base(), context })
    }

    pub fn place(&self, offset: u64) -> Option<SourcePlace> {
        let address = self.base.checked_add(offset)?;
        let mut frames = self.context.find_frames(address).skip_all_loads().ok()?;
        let frame = frames.next().ok()??;
        let function = frame.function.and_then(|name| name.raw_name().ok().map(|name| name.into_owned()));
        let file = frame.location.as_ref().and_then(|place| place.file.map(str::to_owned));
        let line = frame.location.as_ref().and_then(|place| place.line);
        let place = SourcePlace { function, file, line };
        (place != SourcePlace::default()).then_some(place)
    }
}
