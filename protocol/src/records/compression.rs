use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use super::{RecordError, xerial};

/// How the records of a batch are compressed; names and numbers are Kafka's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Cap on the output of decompression: `ratio` times the input and `extra` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    pub ratio: usize,
    pub extra: usize,
}

impl Default for OutputLimit {
    fn default() -> Self {
        Self { ratio: 64, extra: 128 << 20 }
    }
}

impl OutputLimit {
    fn bytes(self, input: usize) -> usize {
        input.saturating_mul(self.ratio).saturating_add(self.extra)
    }
}

impl Compression {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in the attributes of a batch.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The codec of a number.
    pub fn from_code(code: u8) -> Result<Self, RecordError> {
        Self::ALL.get(code as usize).copied().ok_or(RecordError::UnknownCodec(code))
    }

    /// The name in configurations: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Appends `input`, compressed, to `out`. `level` is the codec's own; codecs without levels ignore it.
    pub fn compress(self, input: &[u8], level: Option<i32>, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let done: Result<(), String> = match self {
            Self::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            Self::Gzip => gzip(input, level, out),
            Self::Snappy => xerial::compress(input, out),
            Self::Lz4 => lz4(input, out),
            Self::Zstd => {
                zstd::stream::copy_encode(input, out, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))
                    .map_err(|e| e.to_string())
            }
        };
        done.map_err(|why| RecordError::Compress { codec: self, why })
    }

    /// Appends what `input` decompresses to onto `out`, at most what `limit` allows.
    ///
    /// Memory grows with the output that is really there, not with what the input claims. Snappy is read in xerial's
    /// framing and raw, gzip in one or more members, lz4 as frames.
    pub fn decompress(self, input: &[u8], limit: OutputLimit, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let limit = limit.bytes(input.len());
        let mut sink = Sink { end: out.len().saturating_add(limit), out, full: false };
        let done = match self {
            Self::None => sink.grow(input.len()).map(|target| target.copy_from_slice(input)),
            Self::Gzip => sink.drain(flate2::read::MultiGzDecoder::new(input)),
            Self::Snappy => xerial::decompress(input, &mut sink),
            Self::Lz4 => sink.drain(lz4_flex::frame::FrameDecoder::new(input)),
            Self::Zstd => zstd::stream::read::Decoder::with_buffer(input)
                .map_err(|e| e.to_string())
                .and_then(|r| sink.drain(r)),
        };
        match done {
            Ok(()) => Ok(()),
            Err(_) if sink.full => Err(RecordError::OutputTooLarge { codec: self, limit }),
            Err(why) => Err(RecordError::Decompress { codec: self, why }),
        }
    }
}

fn gzip(input: &[u8], level: Option<i32>, out: &mut Vec<u8>) -> Result<(), String> {
    let level =
        level.map_or(flate2::Compression::default(), |l| flate2::Compression::new(l.clamp(0, 9) as u32));
    let mut encoder = flate2::write::GzEncoder::new(out, level);
    encoder.write_all(input).and_then(|()| encoder.finish()).map_err(|e| e.to_string())?;
    Ok(())
}

/// Independent blocks of 64 KiB: the Java client reads no others.
fn lz4(input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(input).map_err(|e| e.to_string())?;
    encoder.finish().map_err(|e| e.to_string())?;
    Ok(())
}

/// Where decompressed bytes go, with a cap.
pub(super) struct Sink<'a> {
    out: &'a mut Vec<u8>,
    end: usize,
    full: bool,
}

impl Sink<'_> {
    const CHUNK: usize = 64 * 1024;

    /// `more` zeroed bytes at the end, to be filled.
    pub(super) fn grow(&mut self, more: usize) -> Result<&mut [u8], String> {
        let start = self.out.len();
        if more > self.end.saturating_sub(start) {
            self.full = true;
            return Err(String::from("too large"));
        }
        self.out.resize(start + more, 0);
        Ok(&mut self.out[start..])
    }

    fn drain(&mut self, mut from: impl Read) -> Result<(), String> {
        loop {
            let start = self.out.len();
            // Room in steps that follow the output, one byte beyond the cap to notice that it is passed.
            let step = self.out.capacity().saturating_sub(start).max(Self::CHUNK).min(start.max(Self::CHUNK));
            let step = step.min(self.end.saturating_sub(start).saturating_add(1));
            self.out.resize(start + step, 0);
            let read = from.read(&mut self.out[start..]);
            let got = *read.as_ref().unwrap_or(&0);
            self.out.truncate(start + got);
            if self.out.len() > self.end {
                self.full = true;
                return Err(String::from("too large"));
            }
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|c| c.name() == name).ok_or_else(|| {
            format!("unknown compression type {name}: use one of none, gzip, snappy, lz4, zstd")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        (0..200_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect()
    }

    fn round(codec: Compression, input: &[u8]) -> Vec<u8> {
        let (mut packed, mut out) = (Vec::new(), Vec::new());
        codec.compress(input, None, &mut packed).unwrap();
        codec.decompress(&packed, OutputLimit::default(), &mut out).unwrap();
        out
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for codec in Compression::ALL {
            for input in [&b""[..], b"x", &sample()] {
                assert_eq!(round(codec, input), input, "{codec}");
            }
        }
    }

    #[test]
    fn gzip_members_and_raw_snappy_and_joined_xerial_streams_are_read() {
        let mut packed = Vec::new();
        Compression::Gzip.compress(b"one", None, &mut packed).unwrap();
        Compression::Gzip.compress(b"two", None, &mut packed).unwrap();
        let mut out = Vec::new();
        Compression::Gzip.decompress(&packed, OutputLimit::default(), &mut out).unwrap();
        assert_eq!(out, b"onetwo");

        let raw = snap::raw::Encoder::new().compress_vec(&sample()).unwrap();
        out.clear();
        Compression::Snappy.decompress(&raw, OutputLimit::default(), &mut out).unwrap();
        assert_eq!(out, sample());

        packed.clear();
        Compression::Snappy.compress(b"one", None, &mut packed).unwrap();
        Compression::Snappy.compress(b"two", None, &mut packed).unwrap();
        out.clear();
        Compression::Snappy.decompress(&packed, OutputLimit::default(), &mut out).unwrap();
        assert_eq!(out, b"onetwo");
    }

    #[test]
    fn output_beyond_the_cap_is_refused() {
        let input = vec![0u8; 1 << 20];
        for codec in Compression::ALL {
            let (mut packed, mut out) = (Vec::new(), Vec::new());
            codec.compress(&input, None, &mut packed).unwrap();
            let error =
                codec.decompress(&packed, OutputLimit { ratio: 0, extra: 100_000 }, &mut out).unwrap_err();
            assert_eq!(error, RecordError::OutputTooLarge { codec, limit: 100_000 });
            assert!(out.capacity() < 600_000, "{codec} took {}", out.capacity());
            out.clear();
            codec.decompress(&packed, OutputLimit { ratio: 0, extra: 1 << 20 }, &mut out).unwrap();
        }
    }

    #[test]
    fn a_snappy_block_cannot_claim_memory() {
        // Claims 4 GiB - 1 in five bytes.
        let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        let mut out = Vec::new();
        assert!(Compression::Snappy.decompress(&lie, OutputLimit::default(), &mut out).is_err());
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn names_are_kafkas() {
        for codec in Compression::ALL {
            assert_eq!(codec.name().parse(), Ok(codec));
            assert_eq!(Compression::from_code(codec.code()), Ok(codec));
        }
        assert!("brotli".parse::<Compression>().is_err());
        assert_eq!(Compression::from_code(5), Err(RecordError::UnknownCodec(5)));
    }
}
