//! Collects the events of each run, as lanes and the router produce them. One run is the common case.

use std::{mem, sync::Arc};

use super::{
    Event, Record,
    item::Item,
    run_state::{EventBatch, RunState, RunTable},
};

/// Events that are not delivered yet, by run.
pub(super) struct RunBatches {
    table: Arc<RunTable>,
    /// The runs that were named, by number.
    runs: Vec<(u32, Arc<RunState>, EventBatch)>,
    /// The position of the run that was named last.
    last: usize,
    /// The number of events.
    count: usize,
}

impl RunBatches {
    pub(super) fn new(table: Arc<RunTable>) -> Self {
        Self { table, runs: Vec::new(), last: 0, count: 0 }
    }

    /// Returns the number of events that are not delivered yet.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Reserves memory for so many events of the run that was named last.
    pub(super) fn reserve(&mut self, events: usize) {
        if let Some((_, _, event_batch)) = self.runs.get_mut(self.last) {
            event_batch.events.reserve(events);
        }
    }

    /// Returns whether no event waits for its delivery.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.iter().all(|(_, _, event_batch)| event_batch.is_empty())
    }

    /// Returns the position of a run, or `None` if the run is over.
    #[inline]
    fn position(&mut self, run: u32) -> Option<usize> {
        match self.runs.get(self.last) {
            Some((last, ..)) if *last == run => Some(self.last),
            _ => self.find(run),
        }
    }

    #[cold]
    fn find(&mut self, run: u32) -> Option<usize> {
        let by_number =
            |runs: &[(u32, Arc<RunState>, EventBatch)]| runs.binary_search_by_key(&run, |(known, ..)| *known);
        if let Ok(at) = by_number(&self.runs) {
            self.last = at;
            return Some(at);
        }
        let state = self.table.get(run)?;
        self.runs.retain(|(_, state, _)| !state.is_over());
        let at = by_number(&self.runs).unwrap_or_else(|at| at);
        self.runs.insert(at, (run, state, EventBatch::default()));
        self.last = at;
        Some(at)
    }

    /// Returns a run, or `None` if it is over.
    #[inline]
    pub(super) fn run(&mut self, run: u32) -> Option<&Arc<RunState>> {
        let at = self.position(run)?;
        Some(&self.runs[at].1).filter(|run| !run.is_over())
    }

    /// Returns a run if it is named for the first time, and not over.
    #[inline]
    pub(super) fn join(&mut self, run: u32) -> Option<&Arc<RunState>> {
        if self.runs.get(self.last).is_some_and(|(last, ..)| *last == run) {
            return None;
        }
        let is_new = self.runs.binary_search_by_key(&run, |(known, ..)| *known).is_err();
        self.run(run).filter(|_| is_new)
    }

    /// Returns whether a run was named.
    pub(super) fn knows(&self, run: u32) -> bool {
        self.runs.binary_search_by_key(&run, |(known, ..)| *known).is_ok()
    }

    /// Returns the runs that were named and are not over.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Arc<RunState>> {
        self.runs.iter().map(|(_, run, _)| run).filter(|run| !run.is_over())
    }

    /// Adds an event for each run that was named, unless the function returns `None` for it.
    pub(super) fn push_for_all(&mut self, event: impl Fn(&RunState) -> Option<Event>) {
        for (_, run, event_batch) in &mut self.runs {
            if let Some(event) = event(run) {
                event_batch.events.push(event);
                self.count += 1;
            }
        }
    }

    /// Adds an event that ends no open work.
    pub(super) fn push(&mut self, run: u32, event: Event) {
        if let Some(at) = self.position(run) {
            self.runs[at].2.events.push(event);
            self.count += 1;
        }
    }

    /// Records that so many permits of a run are released.
    pub(super) fn release(&mut self, run: u32, permits: usize) {
        if permits > 0
            && let Some(at) = self.position(run)
        {
            self.runs[at].2.permits += permits;
        }
    }

    /// Records the end of open work of a run.
    pub(super) fn finish(&mut self, run: u32, count: usize) {
        if let Some(at) = self.position(run) {
            self.runs[at].2.finished += count;
        }
    }

    /// Adds the event of an item, which the function makes of its record. Counts the octets of the event, and the
    /// permit that it releases.
    #[inline]
    pub(super) fn settle(&mut self, item: &Item, record: Record, event: impl FnOnce(Record) -> Event) {
        let Some(at) = self.position(item.run) else { return };
        let (_, run, event_batch) = &mut self.runs[at];
        event_batch.octets += record.reply.as_ref().map_or(0, |reply| reply.len());
        event_batch.finished += 1;
        match item.holds_permit {
            true => event_batch.permits += 1,
            // The item waited without a permit, and its wait has ended.
            false => run.end_wait_without_permit(),
        }
        event_batch.events.push(event(record));
        self.count += 1;
    }

    /// Delivers the events.
    pub(super) fn deliver(&mut self) {
        for (_, run, event_batch) in &mut self.runs {
            if !event_batch.is_empty() {
                run.deliver(mem::take(event_batch));
            }
        }
        self.count = 0;
    }
}
