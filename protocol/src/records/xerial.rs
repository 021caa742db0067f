//! Snappy as it is found in batches: the block framing of the xerial library, or one raw block.

use super::compression::Sink;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version and oldest compatible version, both 1.
const HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const BLOCK: usize = 32 * 1024;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let mut encoder = snap::raw::Encoder::new();
    out.extend_from_slice(&HEADER);
    for block in input.chunks(BLOCK) {
        let length_at = out.len();
        let room = snap::raw::max_compress_len(block.len());
        out.resize(length_at + 4 + room, 0);
        let written = encoder.compress(block, &mut out[length_at + 4..]).map_err(|e| e.to_string())?;
        out[length_at..length_at + 4].copy_from_slice(&(written as u32).to_be_bytes());
        out.truncate(length_at + 4 + written);
    }
    Ok(())
}

pub(super) fn decompress(input: &[u8], sink: &mut Sink<'_>) -> Result<(), String> {
    if !input.starts_with(&MAGIC) {
        return block(input, sink);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // Streams may be joined: a header can stand between two blocks.
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER.len()..).ok_or("cut short in the stream header")?;
            continue;
        }
        let (length, after) = rest.split_first_chunk::<4>().ok_or("cut short in a block length")?;
        let length = u32::from_be_bytes(*length) as usize;
        let compressed = after.get(..length).ok_or("a block is longer than the bytes that are left")?;
        block(compressed, sink)?;
        rest = &after[length..];
    }
    Ok(())
}

fn block(input: &[u8], sink: &mut Sink<'_>) -> Result<(), String> {
    let claimed = snap::raw::decompress_len(input).map_err(|e| e.to_string())?;
    // The densest element is a copy of 64 bytes in 3: a longer claim is a lie, told before anything is allocated.
    if claimed / 22 > input.len() {
        return Err(format!("{} bytes claim to hold {claimed}", input.len()));
    }
    let target = sink.grow(claimed)?;
    let written = snap::raw::Decoder::new().decompress(input, target).map_err(|e| e.to_string())?;
    if written != claimed {
        return Err(format!("a block claims {claimed} bytes and holds {written}"));
    }
    Ok(())
}
