//! The page: HTML that contains its style and charts, and loads nothing.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs::File,
    io::{self, Read},
    path::Path,
};

use indicatif::HumanCount;
use jiff::Timestamp;
use plotters::style::RGBColor;
use smtp_pool::{
    job::Totals,
    verify::{Status, SubStatus},
};

use super::{
    chart::{self, Bar},
    facts::ReportData,
};
use crate::{
    escape::{Escaped, FileName},
    summary::format_duration,
    verify::{FOR_SANDBOX, FOR_SYNTAX},
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#282c34;max-width:880px;margin:2rem auto;padding:0 1rem}\
    h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ddd}\
    table{border-collapse:collapse}td,th{padding:.15rem .9rem .15rem 0;text-align:right}\
    td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}\
    .wide{overflow-x:auto}\
    @media(max-width:480px){body{margin:1rem auto;padding:0 .6rem;overflow-wrap:anywhere}h1{font-size:1.25rem}\
    td,th{padding-right:.5rem;font-size:.85rem}.wide svg{min-width:720px}}\
    @media(prefers-color-scheme:dark){body{background:#16181d;color:#e4e6ea}h2{border-color:#444}\
    svg,.key span{filter:invert(.9) hue-rotate(180deg)}.blocked{color:#ff8a80}}\
    .blocked{color:#b3261e}.key span{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}.key span:first-child{margin-left:0}";

/// The first line of each page.
const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>smtp-pool report</title>";

/// Returns whether a file is an earlier report, or empty.
pub(super) fn is_page(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD.len() as u64).read_to_end(&mut head)?;
    Ok(head.is_empty() || head == HEAD.as_bytes())
}

fn colour(status: Status) -> RGBColor {
    match status {
        Status::Deliverable => RGBColor(46, 139, 87),
        Status::Undeliverable => RGBColor(192, 57, 43),
        Status::Risky => RGBColor(230, 145, 56),
        Status::Unknown => RGBColor(140, 148, 158),
    }
}

fn bars_or_text(bars: &[Bar], whole: u64, if_none: &str) -> anyhow::Result<String> {
    if bars.is_empty() {
        Ok(format!("<p>{if_none}</p>"))
    } else {
        chart::bars(bars, whole).map(|svg| wide(&svg))
    }
}

/// Returns a chart that a narrow screen can scroll, because its text would be too small to read.
fn wide(svg: &str) -> String {
    format!("<div class=\"wide\">{svg}</div>")
}

fn minute(at: Timestamp) -> impl fmt::Display {
    at.strftime("%Y-%m-%d %H:%M")
}

/// Escapes text from lists and servers for HTML.
fn escaped(text: impl fmt::Display) -> String {
    let mut html = String::new();
    for c in Escaped(text).to_string().chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

/// Escapes text for a place within other text. Text in a right-to-left script does not reorder what stands around it.
fn isolated(text: impl fmt::Display) -> String {
    format!("<bdi>{}</bdi>", escaped(text))
}

pub(super) fn page(facts: &ReportData) -> anyhow::Result<String> {
    let done: u64 = facts.verdicts.values().sum();
    let lists: Vec<String> =
        facts.about.lists.iter().map(|origin| isolated(FileName(&origin.path))).collect();
    let mut page = format!(
        "{HEAD}\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style>\
         <h1>{}</h1><p>{} rows, {} different addresses; {} rows have their verdict, {} are to be asked again.",
        lists.join(", "),
        HumanCount(facts.rows),
        HumanCount(facts.about.addresses),
        HumanCount(done),
        HumanCount(facts.postponed),
    );
    for list in &facts.lists {
        write!(page, "<br>{}", isolated(list.line()))?;
    }
    if let Some((first, last)) = facts.when {
        write!(page, "<br>Verdicts from {} to {}, UTC.", minute(first), minute(last))?;
    }
    let Totals { runs, connections_opened, connections_failed, .. } = facts.totals;
    if runs > 0 {
        write!(
            page,
            "<br>{} {}, {} together; {} connections opened, {} failed.",
            HumanCount(runs),
            if runs == 1 { "run" } else { "runs" },
            format_duration(facts.totals.elapsed()),
            HumanCount(connections_opened),
            HumanCount(connections_failed),
        )?;
    }
    match &*facts.about.kind {
        FOR_SANDBOX => {
            page.push_str("<br>A sandbox gave these verdicts. They tell nothing about real mailboxes.")
        }
        FOR_SYNTAX => page.push_str("<br>Only the syntax was checked. No server was asked."),
        _ => {}
    }
    page.push_str("</p><p class=\"key\">");
    for status in [Status::Deliverable, Status::Undeliverable, Status::Risky, Status::Unknown] {
        let RGBColor(r, g, b) = colour(status);
        let count: u64 =
            facts.verdicts.iter().filter(|((it, _), _)| *it == status).map(|(_, count)| count).sum();
        let share = 100.0 * count as f64 / done.max(1) as f64;
        write!(page, "<span style=\"background:rgb({r},{g},{b})\"></span>{status} {share:.1} %")?;
    }
    page.push_str("</p><h2>Verdicts</h2>");
    let bars: Vec<Bar> = facts
        .verdicts
        .iter()
        .map(|((status, sub_status), count)| Bar {
            label: sub_status.to_string(),
            parts: vec![(*count as f64, colour(*status))],
        })
        .collect();
    page.push_str(&bars_or_text(&bars, done, "No verdict yet.")?);

    page.push_str("<h2>Providers</h2>");
    let bars: Vec<Bar> = facts
        .providers
        .iter()
        .map(|(name, counts)| Bar {
            label: Escaped(name).to_string(),
            parts: counts.iter().map(|(status, count)| (*count as f64, colour(*status))).collect(),
        })
        .collect();
    page.push_str(&bars_or_text(&bars, done, "No server was asked.")?);

    page.push_str("<h2>Throughput</h2>");
    match done {
        0 => page.push_str("<p>No verdict yet.</p>"),
        _ => page.push_str(&wide(&chart::over_time(&facts.throughput.rates(), "verdicts a second")?)),
    }

    page.push_str("<h2>Latency</h2>");
    if facts.took.is_empty() {
        page.push_str("<p>No server was asked.</p>");
    } else {
        let lines: Vec<_> = facts
            .took
            .iter()
            .map(|it| (Escaped(&it.operation).to_string(), [it.p50, it.p90, it.p99, it.max]))
            .collect();
        page.push_str(&wide(&chart::quantiles(&lines)?));
        page.push_str(
            "<div class=\"wide\"><table><tr><th>operation<th>count<th>p50 ms<th>p90 ms<th>p99 ms<th>max ms",
        );
        for it in &facts.took {
            write!(
                page,
                "<tr><td>{}<td>{}<td>{:.2}<td>{:.2}<td>{:.2}<td>{:.2}",
                escaped(&it.operation),
                HumanCount(it.count),
                it.p50,
                it.p90,
                it.p99,
                it.max
            )?;
        }
        page.push_str("</table></div>");
    }

    page.push_str("<h2>Blocked lanes</h2>");
    let verdicts: BTreeMap<SubStatus, u64> =
        facts.verdicts.iter().map(|((_, sub_status), count)| (*sub_status, *count)).collect();
    let lanes = facts.lanes.iter().filter(|lane| lane.is_blocked(&verdicts));
    let blocked: Vec<_> = lanes.filter_map(|lane| Some((lane, lane.blocked.as_ref()?))).collect();
    if blocked.is_empty() {
        page.push_str("<p>None.</p>");
    }
    for (lane, why) in blocked {
        let since = if lane.answers_again { "; it answers again" } else { "" };
        write!(page, "<p class=\"blocked\"><b>{}</b>: {}{since}</p>", isolated(&lane.name), isolated(why))?;
    }
    let noted: Vec<_> =
        facts.lanes.iter().filter(|lane| lane.sender_refusals > 0 || lane.harvest_defences > 0).collect();
    if !noted.is_empty() {
        page.push_str("<h2>Lanes that refused the sender or every recipient</h2>");
        page.push_str(
            "<table><tr><th>lane<th>refusals of the sender<th>defences against directory harvesting",
        );
    }
    for lane in &noted {
        let (name, sender, harvest) = (escaped(&lane.name), lane.sender_refusals, lane.harvest_defences);
        write!(page, "<tr><td>{name}<td>{}<td>{}", HumanCount(sender), HumanCount(harvest.into()))?;
    }
    if !noted.is_empty() {
        page.push_str("</table><p>A server that refuses the null sender may accept one of yours: <code>--from</code>.</p>");
    }
    page.push_str("</html>\n");
    Ok(page)
}
