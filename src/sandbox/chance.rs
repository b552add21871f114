//! Random choices that depend only on the seed.

use fastrand::Rng;

/// Returns a hash that is the same on every machine and in every release: FNV-1a over the parts, each with an end
/// mark. The finaliser of SplitMix64 follows, since FNV's high bits are weak on short texts.
pub(super) fn hash(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for part in parts {
        for &octet in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Returns a number in `0.0..1.0` from the upper 53 bits of a hash.
pub(super) fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// Returns a generator for one connection of one host.
pub(super) fn rng(seed: u64, host: &str, connection: u64) -> Rng {
    Rng::with_seed(hash(seed, &[host.as_bytes(), &connection.to_le_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_stable_and_separates_its_parts() {
        assert_eq!(hash(1, &[b"ann", b"good.test"]), hash(1, &[b"ann", b"good.test"]));
        assert_ne!(hash(1, &[b"ann", b"good.test"]), hash(2, &[b"ann", b"good.test"]));
        assert_ne!(hash(1, &[b"ab", b"c"]), hash(1, &[b"a", b"bc"]));
    }

    #[test]
    fn unit_is_even() {
        let low = (0..10_000u32).filter(|n| unit(hash(7, &[&n.to_le_bytes()])) < 0.7).count();
        assert!((6_800..7_200).contains(&low), "{low}");
    }
}
