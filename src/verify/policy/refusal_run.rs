//! How probable a run of refusals is at a server, by what the server answered before.
//!
//! The share of recipients that a server refuses is not known. It is estimated, the more exactly the more answers there
//! are. Laplace's rule of succession takes account of that: after `a` acceptances and `r` refusals, the next answer is a
//! refusal with the probability `(r + 1) / (a + r + 2)`. The refusals of the run count as soon as they are there, so the
//! probability of a run is the product
//!
//! ```text
//!  r + 1       r + 2             r + n
//! ───────── · ───────── · … · ─────────────
//! a + r + 2   a + r + 3       a + r + n + 1
//! ```
//!
//! A short history thus makes no run improbable: after one acceptance, 140 refusals in a row have the probability 1/10,011.

/// Answers that the history remembers. More would not let it follow a list whose quality changes.
const MEMORY: f64 = 256.0;

/// When a run of refusals is taken for improbable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threshold {
    /// The run is less probable than this.
    pub(super) probability: f64,
    /// It has at least so many refusals.
    pub(super) length: u32,
}

/// The refusals since the last acceptance, and the answers before them.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusalRun {
    accepted: f64,
    refused: f64,
    length: u32,
    probability: f64,
}

impl Default for RefusalRun {
    fn default() -> Self {
        Self { accepted: 0.0, refused: 0.0, length: 0, probability: 1.0 }
    }
}

impl RefusalRun {
    /// Records an acceptance, which ends the run.
    pub(super) fn record_acceptance(&mut self) {
        self.explained();
        self.accepted += 1.0;
    }

    /// Records a refusal.
    pub(super) fn record_refusal(&mut self) {
        let before = f64::from(self.length);
        self.probability *= (self.refused + before + 1.0) / (self.accepted + self.refused + before + 2.0);
        self.length = self.length.saturating_add(1);
    }

    /// Ends the run, whose refusals are part of the history from now on.
    pub(super) fn explained(&mut self) {
        self.refused += f64::from(self.length);
        self.forget();
        let all = self.accepted + self.refused;
        if all > MEMORY {
            self.accepted *= MEMORY / 2.0 / all;
            self.refused *= MEMORY / 2.0 / all;
        }
    }

    /// Ends the run without a trace of it.
    pub(super) fn forget(&mut self) {
        (self.length, self.probability) = (0, 1.0);
    }

    /// Returns the number of refusals since the last acceptance.
    pub(super) fn len(&self) -> u32 {
        self.length
    }

    /// Tells whether anything was accepted so far.
    pub(super) fn has_acceptances(&self) -> bool {
        self.accepted > 0.0
    }

    /// Tells whether the history does not explain the run. A server that has accepted nobody yet has no history.
    pub(super) fn is_improbable(&self, threshold: Threshold) -> bool {
        self.has_acceptances() && self.length >= threshold.length && self.probability < threshold.probability
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THRESHOLD: Threshold = Threshold { probability: 1e-4, length: 8 };

    fn history(accepted: u32, refused: u32) -> RefusalRun {
        let mut run = RefusalRun::default();
        (0..refused).for_each(|_| run.record_refusal());
        (0..accepted).for_each(|_| run.record_acceptance());
        run
    }

    #[test]
    fn the_length_of_an_improbable_run_follows_from_the_history() {
        for (accepted, refused, length) in [
            // Short histories.
            (0, 0, None),
            (0, 50, None),
            (1, 0, Some(140)),
            (3, 0, Some(20)),
            (3, 2, Some(40)),
            (5, 5, Some(31)),
            // Long ones, of which 95, 90, 50 and 20 % were accepted.
            (95, 5, Some(8)),
            (90, 10, Some(8)),
            (100, 100, Some(14)),
            (40, 160, Some(46)),
        ] {
            let mut run = history(accepted, refused);
            let found = (1..=1_000).find(|_| {
                run.record_refusal();
                run.is_improbable(THRESHOLD)
            });
            assert_eq!(found, length, "after {accepted} acceptances and {refused} refusals");
        }
    }

    #[test]
    fn an_explained_run_is_history_and_a_forgotten_one_is_not() {
        let (mut explained, mut forgotten) = (history(10, 0), history(10, 0));
        for run in [&mut explained, &mut forgotten] {
            (0..10).for_each(|_| run.record_refusal());
            assert!(run.is_improbable(THRESHOLD));
        }
        explained.explained();
        forgotten.forget();
        for run in [&mut explained, &mut forgotten] {
            assert_eq!(run.len(), 0);
            (0..8).for_each(|_| run.record_refusal());
        }
        assert!(forgotten.is_improbable(THRESHOLD) && !explained.is_improbable(THRESHOLD));
    }

    proptest! {
        /// A server that refuses any share of recipients, each for itself, seldom has an improbable run.
        #[test]
        fn an_honest_server_is_seldom_suspected(share in 0.0..1.0f64, seed: u64) {
            let (mut random, mut run) = (fastrand::Rng::with_seed(seed), RefusalRun::default());
            let mut suspected = 0;
            for _ in 0..20_000 {
                if random.f64() >= share {
                    run.record_acceptance();
                    continue;
                }
                run.record_refusal();
                if run.is_improbable(THRESHOLD) {
                    run.explained();
                    suspected += 1;
                }
            }
            prop_assert!(suspected <= 8, "{suspected} of 20,000, of which {share} are refused");
        }

        /// A server that refuses everybody from some time on is suspected after so many refusals as contain twenty-four
        /// acceptances as a rule.
        #[test]
        fn a_server_that_begins_to_refuse_everybody_is_soon_suspected(
            share in 0.0..0.9f64,
            before in 300..2_000u32,
            seed: u64,
        ) {
            let (mut random, mut run) = (fastrand::Rng::with_seed(seed), RefusalRun::default());
            (0..before).for_each(|_| if random.f64() < share { run.record_refusal() } else { run.record_acceptance() });
            run.record_acceptance();
            let enough = (24.0 / (1.0 - share)).ceil() as u32;
            let found = (1..=enough).any(|_| {
                run.record_refusal();
                run.is_improbable(THRESHOLD)
            });
            prop_assert!(found, "not within {enough} refusals, where {share} are refused");
        }
    }
}
