//! Estimates the probability of a run of refusals from the answers before it.
//!
//! The share of recipients that a server refuses is unknown. The estimate becomes more exact with more answers.
//! Laplace's rule of succession accounts for that. After `a` acceptances and `r` refusals, the next answer is a refusal
//! with the probability `(r + 1) / (a + r + 2)`. Each refusal of the run counts for those behind it, so the probability
//! of a run of `n` is the product
//!
//! ```text
//!  r + 1       r + 2             r + n
//! ───────── · ───────── · … · ─────────────
//! a + r + 2   a + r + 3       a + r + n + 1
//! ```
//!
//! So a short history makes no run improbable: after one acceptance, 140 refusals in a row have the probability
//! 1/10,011.

/// Answers that the history remembers. With more, it could not follow a list whose quality changes.
const REMEMBERED_ANSWERS: f64 = 256.0;

/// The limits beyond which a run of refusals counts as improbable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threshold {
    /// The probability of the run is below this.
    pub(super) probability: f64,
    /// The run has at least so many refusals.
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
        self.end_as_explained();
        self.accepted += 1.0;
    }

    /// Records a refusal.
    pub(super) fn record_refusal(&mut self) {
        let before = f64::from(self.length);
        self.probability *= (self.refused + before + 1.0) / (self.accepted + self.refused + before + 2.0);
        self.length = self.length.saturating_add(1);
    }

    /// Ends the run and adds its refusals to the history.
    pub(super) fn end_as_explained(&mut self) {
        self.refused += f64::from(self.length);
        self.forget();
        let all = self.accepted + self.refused;
        if all > REMEMBERED_ANSWERS {
            self.accepted *= REMEMBERED_ANSWERS / 2.0 / all;
            self.refused *= REMEMBERED_ANSWERS / 2.0 / all;
        }
    }

    /// Ends the run and drops its refusals.
    pub(super) fn forget(&mut self) {
        (self.length, self.probability) = (0, 1.0);
    }

    /// Returns the number of refusals since the last acceptance.
    pub(super) fn len(&self) -> u32 {
        self.length
    }

    /// Returns whether any recipient was accepted so far.
    pub(super) fn has_acceptances(&self) -> bool {
        self.accepted > 0.0
    }

    /// Returns whether the history does not explain the run. A server without any acceptance has no history.
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
            // Long histories, of which 95, 90, 50 and 20 % are acceptances.
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
        explained.end_as_explained();
        forgotten.forget();
        for run in [&mut explained, &mut forgotten] {
            assert_eq!(run.len(), 0);
            (0..8).for_each(|_| run.record_refusal());
        }
        assert!(forgotten.is_improbable(THRESHOLD) && !explained.is_improbable(THRESHOLD));
    }

    proptest! {
        /// A server that refuses any share of recipients independently seldom has an improbable run.
        #[test]
        fn an_honest_server_seldom_has_an_improbable_run(share in 0.0..1.0f64, seed: u64) {
            let (mut random, mut run) = (fastrand::Rng::with_seed(seed), RefusalRun::default());
            let mut improbable = 0;
            for _ in 0..20_000 {
                if random.f64() >= share {
                    run.record_acceptance();
                    continue;
                }
                run.record_refusal();
                if run.is_improbable(THRESHOLD) {
                    run.end_as_explained();
                    improbable += 1;
                }
            }
            prop_assert!(improbable <= 8, "{improbable} of 20,000, of which {share} are refused");
        }

        /// A server that begins to refuse every recipient has an improbable run soon: within the refusals that usually
        /// hold 24 acceptances.
        #[test]
        fn a_server_that_begins_to_refuse_everybody_soon_has_an_improbable_run(
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
