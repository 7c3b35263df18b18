//! The one source of chance.
//!
//! SplitMix64, written out here: a crate's generator may change with its version, and then an old seed would
//! no longer find its failure again.

/// A stream of numbers that a seed determines.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// The stream number `stream` of `seed`. Streams do not influence one another, so that traffic on one link
    /// leaves the fate of packets on the others alone.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut mixer = Self { state: seed };
        let state = mixer.next() ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self { state }
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True in this share of all calls. Chances of 0 and 1 draw no number.
    pub(crate) fn happens(&mut self, chance: f64) -> bool {
        if chance <= 0.0 {
            return false;
        }
        // 53 bits are as many as a float holds.
        chance >= 1.0 || ((self.next() >> 11) as f64) < chance * (1_u64 << 53) as f64
    }

    /// A number from 0 up to `most`; 0 draws none.
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        if most == 0 {
            return 0;
        }
        let wide = u128::from(self.next()) * (u128::from(most) + 1);
        (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_change_with_a_version() {
        // The numbers that SplitMix64 is published with.
        let mut random = Random { state: 1_234_567 };
        let numbers = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(numbers, [random.next(), random.next(), random.next()]);
    }

    #[test]
    fn share_of_what_happens_is_the_chance() {
        let mut random = Random::new(1, 2);
        let count = (0..100_000).filter(|_| random.happens(0.25)).count();
        assert!((24_000..26_000).contains(&count), "{count}");
        assert!((0..1000).all(|_| !random.happens(0.0) && random.happens(1.0)));
    }

    #[test]
    fn bounded_numbers_reach_both_bounds() {
        let mut random = Random::new(1, 3);
        let mut seen = [0; 4];
        (0..1000).for_each(|_| seen[random.up_to(3) as usize] += 1);
        assert!(seen.iter().all(|count| *count > 150), "{seen:?}");
    }
}
