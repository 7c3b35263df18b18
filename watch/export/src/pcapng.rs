//! Packets as a pcapng file, for Wireshark and its kin.
//!
//! Packets are raw IP (link type 101), each on the interface whose name was given for its wire. Times are
//! nanoseconds since the start of the run: a capture of virtual time has no date.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::{DataLink, PcapError};

/// Nanoseconds, as a power of ten.
const NANOSECONDS: u8 = 9;

/// A pcapng file being written.
pub struct Pcapng<W: Write> {
    writer: PcapNgWriter<W>,
    interfaces: u32,
}

impl<W: Write> Pcapng<W> {
    /// Begins a file in `output` with an interface for each of `names`.
    ///
    /// # Errors
    /// Whatever `output` says.
    pub fn new(output: W, names: &[impl AsRef<str>]) -> io::Result<Self> {
        let mut writer = PcapNgWriter::new(output).map_err(io_error)?;
        for name in names {
            let name = InterfaceDescriptionOption::IfName(Cow::Borrowed(name.as_ref()));
            let options = vec![name, InterfaceDescriptionOption::IfTsResol(NANOSECONDS)];
            let block = InterfaceDescriptionBlock { linktype: DataLink::RAW, snaplen: 0, options };
            writer.write_pcapng_block(block).map_err(io_error)?;
        }
        Ok(Self { writer, interfaces: names.len() as u32 })
    }

    /// Adds an IP packet that crossed `interface`, `at` nanoseconds after the start. A `comment` is shown
    /// beside it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if there is no such interface; whatever the output says.
    pub fn add(&mut self, interface: u32, at: u64, packet: &[u8], comment: Option<&str>) -> io::Result<()> {
        let length = u32::try_from(packet.len()).ok().filter(|_| interface < self.interfaces);
        let Some(original_len) = length else { return Err(io::ErrorKind::InvalidInput.into()) };
        let comment = comment.map(|text| EnhancedPacketOption::Comment(Cow::Borrowed(text)));
        let block = EnhancedPacketBlock {
            interface_id: interface,
            timestamp: Duration::from_nanos(at),
            original_len,
            data: Cow::Borrowed(packet),
            options: comment.into_iter().collect(),
        };
        self.writer.write_pcapng_block(block).map_err(io_error)?;
        Ok(())
    }

    /// Ends the file and gives the output back.
    ///
    /// # Errors
    /// Whatever the output says.
    pub fn finish(self) -> io::Result<W> {
        let mut output = self.writer.into_inner();
        output.flush()?;
        Ok(output)
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcapng::{Block, PcapNgReader};

    #[test]
    fn packets_are_read_back_with_interface_time_and_comment() {
        let mut file = Pcapng::new(Vec::new(), &["a - b", "a (loopback)"]).unwrap();
        file.add(1, 1_234_567_891, &[0x45, 0, 1], None).unwrap();
        file.add(0, 1_234_567_892, &[0x60], Some("lost")).unwrap();
        let bytes = file.finish().unwrap();

        let mut reader = PcapNgReader::new(bytes.as_slice()).unwrap();
        let (mut names, mut packets) = (Vec::new(), Vec::new());
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(block) => names.push(format!("{:?}", block.options[0])),
                Block::EnhancedPacket(block) => {
                    let comment = block.options.first().map(|option| format!("{option:?}"));
                    packets.push((block.interface_id, block.timestamp.as_nanos(), block.data.to_vec(), comment));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(names[0].contains("\"a - b\"") && names[1].contains("\"a (loopback)\""), "{names:?}");
        assert_eq!(packets[0], (1, 1_234_567_891, vec![0x45, 0, 1], None));
        assert_eq!((packets[1].0, packets[1].1, &packets[1].2), (0, 1_234_567_892, &vec![0x60]));
        assert!(packets[1].3.as_ref().unwrap().contains("lost"));
    }

    #[test]
    fn packet_of_an_interface_that_is_none_is_refused() {
        let mut file = Pcapng::new(Vec::new(), &["a"]).unwrap();
        assert_eq!(file.add(1, 0, &[], None).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn full_disk_is_an_error() {
        let mut disk = [0_u8; 80];
        let mut file = Pcapng::new(disk.as_mut_slice(), &["a"]).unwrap();
        assert!((0..10).any(|at| file.add(0, at, &[0; 40], None).is_err()));
    }
}
