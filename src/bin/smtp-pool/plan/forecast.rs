//! Computes what it takes to verify lists: the addresses of each provider, and the time that its limits require.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::Duration,
};

use comfy_table::CellAlignment;
use indicatif::{HumanCount, HumanDuration};
use serde::Serialize;
use smtp_pool::{
    client::Endpoint,
    job::input::Rows,
    metrics::Metrics,
    proto::Mailbox,
    verify::{MailRoute, Providers, Resolver, Unreachable},
};
use tokio::task::JoinSet;

use super::args::PlanArgs;
use crate::{
    escape::Escaped,
    exit::{ErrorContext, Exit, Result},
    summary::table,
    terminal::Terminal,
    understood::{self, UnderstoodList},
    verify::{VerifyPlan, Work, start_sandbox},
};

/// The maximum number of domains that wait for a lookup. The resolver limits the lookups at once.
const MAX_LOOKUPS: usize = 1_024;

/// Addresses in one lane.
#[derive(Debug, Default, Serialize)]
struct ProviderForecast {
    provider: String,
    domains: u64,
    addresses: u64,
    /// The maximum number of addresses an hour, or `None` if the rate has no limit.
    per_hour: Option<u64>,
    /// The minimum time, which the limits require.
    seconds: Option<u64>,
    /// The maximum time that the host with the most addresses is waited for, if it is silent or slow.
    longest_seconds: u64,
    /// The number of addresses of each set of mail servers.
    #[serde(skip)]
    sets: HashMap<Vec<Endpoint>, u64>,
}

#[derive(Debug, Default, Serialize)]
struct Forecast {
    /// What was understood about each list.
    lists: Vec<UnderstoodList>,
    rows: u64,
    invalid: u64,
    domains: u64,
    /// The number of addresses that need no server, by reason.
    unasked: BTreeMap<&'static str, u64>,
    lanes: Vec<ProviderForecast>,
    /// The minimum time of the slowest lane.
    seconds: Option<u64>,
    /// The maximum time that any host is waited for, if it is silent or slow.
    longest_seconds: u64,
}

pub(crate) async fn run(args: &PlanArgs, logging: bool) -> Result<Exit> {
    if args.print_providers {
        return done(Terminal::out().built_in(Providers::BUILTIN));
    }
    let VerifyPlan { mut config, world, work, screen, .. } = VerifyPlan::new(&args.verify, logging)?;
    let _sandbox = match world {
        Some(world) => Some(start_sandbox(world, &mut config).await?),
        None => None,
    };
    let rows = match work {
        Work::Stream { rows, .. } => rows,
        Work::Job(job) => Rows::open(job.sources, &job.hints, screen.reporter())?,
    };
    let tracker = rows.tracker();
    let lists: Vec<_> =
        rows.lists().map(|(source, recognition)| (source.clone(), recognition.clone())).collect();
    let (mut forecast, domains, counts) =
        tokio::task::spawn_blocking(move || count(rows)).await.failed_at("the lists")?;
    forecast.lists = understood::of_counted_rows(lists, &counts);
    if let Some(failure) = tracker.failure() {
        return Err(failure.into());
    }
    let resolver = Resolver::new(
        &config.nameservers,
        config.routes.clone(),
        config.port,
        config.allow_private,
        Arc::new(Metrics::new()),
    );
    let resolver = Arc::new(resolver.usage_at("cannot set up the DNS resolver")?);
    let mut lanes: HashMap<String, ProviderForecast> = HashMap::new();
    let mut lookups = JoinSet::new();
    let mut domains = domains.into_iter();
    loop {
        while lookups.len() < MAX_LOOKUPS
            && let Some((_, (mailbox, count))) = domains.next()
        {
            let resolver = Arc::clone(&resolver);
            lookups.spawn(
                async move { (count, resolver.resolve(&mailbox).await.map(|found| found.exchangers)) },
            );
        }
        match lookups.join_next().await {
            Some(found) => {
                let (count, route) = found.failed_at("a lookup")?;
                forecast.add(&mut lanes, &config, count, &route);
            }
            None => break,
        }
    }
    forecast.lanes = lanes.into_values().collect();
    forecast.lanes.sort_by(|one, other| {
        (other.seconds, other.addresses, &one.provider).cmp(&(one.seconds, one.addresses, &other.provider))
    });
    for lane in &mut forecast.lanes {
        let most = lane.sets.values().max().copied().unwrap_or(0);
        lane.longest_seconds = config.longest(most).as_secs().saturating_add(lane.seconds.unwrap_or(0));
    }
    forecast.longest_seconds = forecast.lanes.iter().map(|lane| lane.longest_seconds).max().unwrap_or(0);
    forecast.seconds = forecast.lanes.iter().filter_map(|lane| lane.seconds).max();
    done(match args.json {
        true => Terminal::out().json(&forecast),
        false => Terminal::out().lines(text(&forecast, args.top)),
    })
}

fn done(written: io::Result<()>) -> Result<Exit> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).failed_at("standard output"),
        _ => Ok(Exit::Done),
    }
}

type DomainCounts = HashMap<String, (Mailbox, u64)>;

/// Counts the addresses of each domain, and returns one of them with each count. Counts the rows of each list.
fn count(rows: Rows) -> (Forecast, DomainCounts, Vec<u64>) {
    let mut forecast = Forecast::default();
    let mut domains = DomainCounts::new();
    let mut counts = vec![0; rows.recognitions().len()];
    for row in rows {
        forecast.rows += 1;
        counts[row.source as usize] += 1;
        match row.mailbox {
            None => forecast.invalid += 1,
            Some(mailbox) => match domains.get_mut(mailbox.domain()) {
                Some((_, count)) => *count += 1,
                None => drop(domains.insert(mailbox.domain().to_owned(), (mailbox, 1))),
            },
        }
    }
    forecast.domains = domains.len() as u64;
    (forecast, domains, counts)
}

impl Forecast {
    fn add(
        &mut self,
        lanes: &mut HashMap<String, ProviderForecast>,
        config: &smtp_pool::verify::VerifierConfig,
        count: u64,
        route: &MailRoute,
    ) {
        let exchangers = match route {
            Ok(exchangers) => exchangers,
            Err(unreachable) => {
                let why = match unreachable {
                    Unreachable::NullMx => "does_not_accept_mail",
                    Unreachable::NoDnsEntries => "no_dns_entries",
                    Unreachable::Unroutable => "unroutable_ip_address",
                    _ => "temporary_dns_error",
                };
                *self.unasked.entry(why).or_default() += count;
                return;
            }
        };
        let host = exchangers.first().map_or("", |exchanger| &*exchanger.host);
        let providers = config.providers.as_deref().unwrap_or_else(|| Providers::builtin());
        let (provider, limits) = match providers.of(host) {
            Some(provider) => (provider.name.to_string(), provider.limits),
            None => (host.to_owned(), providers.default_limits()),
        };
        let lane = lanes
            .entry(provider.clone())
            .or_insert_with(|| ProviderForecast { provider, ..ProviderForecast::default() });
        lane.domains += 1;
        lane.addresses += count;
        *lane.sets.entry(exchangers.clone()).or_default() += count;
        let rates = [(limits.per_minute, 60), (limits.per_hour, 3_600), (limits.per_day, 86_400)];
        let rates =
            || rates.iter().filter_map(|(limit, seconds)| Some((u64::from((*limit)?.max(1)), *seconds)));
        lane.per_hour = rates().map(|(limit, seconds)| limit * 3_600 / seconds).min();
        lane.seconds = rates().map(|(limit, seconds)| lane.addresses * seconds / limit).max();
    }
}

fn text(forecast: &Forecast, top: usize) -> String {
    let mut table = table(&["provider", "domains", "addresses", "at most", "at least"], 1);
    if let Some(column) = table.column_mut(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let span = |seconds: u64| HumanDuration(Duration::from_secs(seconds)).to_string();
    let (shown, rest) = forecast.lanes.split_at(top.min(forecast.lanes.len()));
    for lane in shown {
        table.add_row([
            Escaped(&lane.provider).to_string(),
            HumanCount(lane.domains).to_string(),
            HumanCount(lane.addresses).to_string(),
            lane.per_hour.map_or("no limit".into(), |per_hour| format!("{}/h", HumanCount(per_hour))),
            lane.seconds.map_or("-".into(), span),
        ]);
    }
    if !rest.is_empty() {
        let sum = |of: fn(&ProviderForecast) -> u64| HumanCount(rest.iter().map(of).sum()).to_string();
        let name = format!("{} others", HumanCount(rest.len() as u64));
        let slowest = rest.iter().filter_map(|lane| lane.seconds).max();
        table.add_row([
            name,
            sum(|lane| lane.domains),
            sum(|lane| lane.addresses),
            String::new(),
            slowest.map_or("-".into(), span),
        ]);
    }
    let lists: String = forecast.lists.iter().map(|list| format!("{}\n", list.line())).collect();
    let mut text = format!(
        "{lists}{} rows, {} of them no addresses; {} domains\n\n{}",
        HumanCount(forecast.rows),
        HumanCount(forecast.invalid),
        HumanCount(forecast.domains),
        table.trim_fmt()
    );
    for (why, count) in &forecast.unasked {
        text.push_str(&format!("\n{} addresses need no server: {why}", HumanCount(*count)));
    }
    let total = match forecast.seconds {
        Some(seconds) => {
            format!("the limits of the slowest provider require at least {}", span(seconds))
        }
        None => "no provider limits the rate: the time depends on the servers alone".into(),
    };
    if forecast.longest_seconds > 0 {
        let longest = span(forecast.longest_seconds);
        text.push_str(&format!("\n\na host that is silent or too slow is given up after at most {longest}"));
    }
    format!("{text}\n\n{total}")
}
