//! Writes records as they come, or in the order of the rows, and keeps nothing.

mod pending_rows;

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Instant};

use smtp_pool::{
    job::input::{Rows, Tracker},
    verify::{Record, Records},
};
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

use self::pending_rows::{PendingRow, PendingRows};
use super::{
    context::{RunContext, TICK, report_blocked, report_timeouts},
    metrics_server::MetricsServer,
};
use crate::{
    exit::{Exit, Failure, Result},
    output::{Output, OutputRow, Target, Written},
    progress::RunProgress,
    stop,
    summary::{LaneRefusals, VerdictCounts, tables},
    understood,
};

pub(super) async fn run(
    context: RunContext,
    rows: Rows,
    keep_order: bool,
    target: &Target,
    server: &MetricsServer,
) -> Result<Exit> {
    let RunContext { verifier, metrics, screen, quiet, .. } = &context;
    let tracker = rows.tracker();
    understood::print(&understood::of_rows(&rows), screen, *quiet);
    let output = target.open(rows.shapes())?;
    let started = Instant::now();
    let pending = Arc::new(PendingRows::new(keep_order));
    let _closed = pending.close_on_drop();
    let mut records = verifier.verify_all(pending_rows::addresses(rows, Arc::clone(&pending)));
    let mut stream = StreamRun {
        output,
        pending,
        counts: VerdictCounts::default(),
        next: 0,
        waiting: keep_order.then(BTreeMap::new),
    };

    let ended = stream.pump(&mut records, &tracker, |progress| {
        screen.show(progress, false);
        server.update(progress);
    });
    let ended = ended.await;
    screen.show(&stream.progress(&records, &tracker), true);
    screen.clear();
    let ended = ended?;
    // Records that wait for an earlier row are written, because that row will not come.
    let ended = match stream.write_remaining()? {
        Written::Yes => ended,
        Written::ReaderClosed => Ended::ReaderClosed,
    };
    let StreamRun { output, counts, .. } = stream;
    let ended = match output.finish()? {
        Written::Yes => ended,
        Written::ReaderClosed => Ended::ReaderClosed,
    };
    if ended == Ended::ReaderClosed {
        return Ok(Exit::Done);
    }
    match tracker.unreported() {
        0 => {}
        1 => screen.print_line("and 1 more row that is no address"),
        more => screen.print_line(format_args!("and {more} more rows that are no addresses")),
    }
    if !*quiet && counts.total() > 0 {
        screen.print_tables(tables(&counts, counts.total(), &metrics.snapshot(), started.elapsed()));
        report_timeouts(&counts, screen);
    }
    context.print_refusal_notes(records.lanes().snapshot().iter().map(|lane| LaneRefusals {
        lane: &lane.name,
        sender_refusals: lane.sender_refusals,
        harvest_defences: lane.harvest_defences,
    }));
    if ended == Ended::Stopped {
        let (rows, done) = (tracker.rows(), counts.total());
        screen.print_line(format_args!(
            "interrupted: {done} records are written, {} rows in flight have none",
            rows.saturating_sub(done)
        ));
        return Ok(Exit::Interrupted);
    }
    match tracker.failure() {
        Some(failure) => Err(failure.into()),
        None if tracker.rows() == counts.total() => {
            let exit = report_blocked(&records.lanes().snapshot(), screen);
            Ok(context.check_gate(&counts, exit))
        }
        None => Err(Failure::failed(format_args!(
            "{} rows were read, but {} records were written; this is a bug, please report it",
            tracker.rows(),
            counts.total()
        ))),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Every address has its record.
    All,
    /// The user stopped the run.
    Stopped,
    /// The reader of the output has closed it.
    ReaderClosed,
}

struct StreamRun {
    output: Output,
    pending: Arc<PendingRows>,
    counts: VerdictCounts,
    /// The number of the row to be written next, if the order is kept.
    next: u64,
    /// Records that wait for an earlier row. `None` if the order is not kept.
    waiting: Option<BTreeMap<u64, Record>>,
}

impl StreamRun {
    async fn pump(
        &mut self,
        records: &mut Records,
        tracker: &Tracker,
        show: impl Fn(&RunProgress),
    ) -> Result<Ended> {
        let mut stopped = pin!(stop::requested());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let written = select! {
                biased;
                () = &mut stopped => return Ok(Ended::Stopped),
                _ = tick.tick() => {
                    show(&self.progress(records, tracker));
                    self.output.flush()?
                }
                record = records.next_numbered() => match record {
                    Some(first) => self.take_ready(first, records)?,
                    None => return Ok(Ended::All),
                },
            };
            if written == Written::ReaderClosed {
                return Ok(Ended::ReaderClosed);
            }
        }
    }

    fn progress(&self, records: &Records, tracker: &Tracker) -> RunProgress {
        RunProgress {
            verdicts: self.counts.verdicts(),
            postponed: 0,
            total: tracker.total(),
            lanes: records.lanes().snapshot(),
        }
    }

    /// Writes a record, and those that arrived together with it.
    fn take_ready(&mut self, first: (u64, Record), records: &mut Records) -> Result<Written> {
        let mut next = Some(first);
        while let Some((number, record)) = next {
            if self.take(number, record)? == Written::ReaderClosed {
                return Ok(Written::ReaderClosed);
            }
            next = records.next_ready();
        }
        Ok(Written::Yes)
    }

    fn take(&mut self, number: u64, record: Record) -> Result<Written> {
        let Some(waiting) = &mut self.waiting else { return self.write(number, record) };
        waiting.insert(number, record);
        while let Some(record) = self.waiting.as_mut().and_then(|waiting| waiting.remove(&self.next)) {
            if self.write(self.next, record)? == Written::ReaderClosed {
                return Ok(Written::ReaderClosed);
            }
            self.next += 1;
        }
        Ok(Written::Yes)
    }

    fn write_remaining(&mut self) -> Result<Written> {
        for (number, record) in self.waiting.take().unwrap_or_default() {
            if self.write(number, record)? == Written::ReaderClosed {
                return Ok(Written::ReaderClosed);
            }
        }
        Ok(Written::Yes)
    }

    fn write(&mut self, number: u64, mut record: Record) -> Result<Written> {
        self.counts.add(&record);
        let PendingRow { source, written, given } = self.pending.take(number);
        if let Some(given) = given {
            record.address = given.into();
        }
        self.output.write(&OutputRow::new(&record, source, &written))
    }
}
