//! Digests of blocks, as both sides of a sync compute them.
//!
//! Reading and digesting take turns on one thread, a piece at a time that stays in the cache of its core between the two:
//! what is only compared is never moved through memory as a whole.

/// What both sides of a sync call the digest of a block.
pub type BlockDigest = [u8; 16];

/// Read at once.
const PIECE_BYTES: usize = 256 << 10;

/// Digests of the blocks of `len` bytes at `at`, the last of which may be shorter than `block` bytes, which is not 0.
/// `read` fills a piece from a place.
///
/// # Errors
/// The first of `read`.
pub(super) fn digests_of<E>(
    at: u64,
    len: u64,
    block: u32,
    mut read: impl FnMut(&mut [u8], u64) -> Result<(), E>,
) -> Result<Vec<BlockDigest>, E> {
    let whole = PIECE_BYTES / block as usize * block as usize;
    if whole == 0 {
        let block_at = |nr: u64| nr * u64::from(block);
        let count = len.div_ceil(block.into());
        let one = |nr| {
            digest_in_pieces(
                at + block_at(nr),
                (len - block_at(nr)).min(block.into()),
                &mut read,
            )
        };
        return (0..count).map(one).collect();
    }
    let mut digests = Vec::with_capacity(len.div_ceil(block.into()) as usize);
    in_pieces(at, len, whole, &mut read, |piece| {
        digests.extend(piece.chunks(block as usize).map(digest_of));
    })?;
    Ok(digests)
}

/// The digest of one large block.
fn digest_in_pieces<E>(
    at: u64,
    len: u64,
    read: &mut impl FnMut(&mut [u8], u64) -> Result<(), E>,
) -> Result<BlockDigest, E> {
    let mut hasher = blake3::Hasher::new();
    in_pieces(at, len, PIECE_BYTES, read, |piece| {
        hasher.update(piece);
    })?;
    Ok(cut(hasher.finalize()))
}

fn in_pieces<E>(
    at: u64,
    len: u64,
    step: usize,
    read: &mut impl FnMut(&mut [u8], u64) -> Result<(), E>,
    mut with: impl FnMut(&[u8]),
) -> Result<(), E> {
    let mut piece = vec![0; len.min(step as u64) as usize];
    let mut done = 0;
    while done < len {
        let now = (len - done).min(step as u64) as usize;
        read(&mut piece[..now], at + done)?;
        with(&piece[..now]);
        done += now as u64;
    }
    Ok(())
}

fn digest_of(block: &[u8]) -> BlockDigest {
    cut(blake3::hash(block))
}

fn cut(hash: blake3::Hash) -> BlockDigest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.as_bytes()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the pieces, the digests are those of the blocks.
    fn check(at: usize, len: usize, block: u32) {
        let device: Vec<u8> = (0..at + len).map(|nr| (nr * 7 / 5) as u8).collect();
        let read = |piece: &mut [u8], from: u64| {
            assert!(piece.len() <= PIECE_BYTES);
            piece.copy_from_slice(&device[from as usize..from as usize + piece.len()]);
            Ok::<(), ()>(())
        };
        let found = digests_of(at as u64, len as u64, block, read).expect("it can be read");
        let expected: Vec<_> = device[at..].chunks(block as usize).map(digest_of).collect();
        assert_eq!(found, expected, "{len} bytes at {at} in blocks of {block}");
    }

    #[test]
    fn small_blocks_large_blocks_and_rests_have_the_digests_of_their_bytes() {
        for block in [1 << 12, 3000, 256 << 10, (256 << 10) + 512, 1 << 20] {
            check(4096, 3 << 20, block);
            check(512, (1 << 20) + 700, block);
            check(0, 100, block);
        }
    }

    #[test]
    fn a_place_that_cannot_be_read_ends_it() {
        let read = |_: &mut [u8], from: u64| if from < 300_000 { Ok(()) } else { Err(from) };
        assert_eq!(digests_of(0, 1 << 20, 1 << 20, read).err(), Some(512 << 10));
    }
}
