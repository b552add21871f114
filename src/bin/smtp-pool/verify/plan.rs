//! The plan of a run of `verify`. Making it finds every error of usage before the run starts.

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use smtp_pool::{
    client::Timeouts,
    job::{
        Job, JobError, MatchedBy,
        input::{Hints, Rows, Source},
    },
    proto::{Domain, Mailbox, ReversePath},
    sandbox::World,
    verify::{Lists, RiskPolicy, Routes, VerifierConfig},
};
use tempfile::TempDir;

use super::{
    args::{RiskKind, VerifyArgs},
    gate::BounceGate,
};
use crate::{
    clean::{CleanRuleArgs, CleanTarget},
    escape::FileName,
    exit::{ErrorContext, Failure, Result},
    identity::{self, ServerScope},
    job,
    options::{hints, job_of, providers, read_text, read_world, rules, seconds, sources, tls_config},
    output::{Destination, Target, is_same},
    progress::{ProgressMode, Screen},
    route,
};

/// The kind of a job that checks the syntax only.
pub(crate) const FOR_SYNTAX: &str = "to check the syntax only";
/// The kind of a job that asks the servers of a sandbox.
pub(crate) const FOR_SANDBOX: &str = "for a sandbox";

pub(crate) struct VerifyPlan {
    pub(crate) config: VerifierConfig,
    /// The world of a sandbox that takes the place of the Internet.
    pub(crate) world: Option<World>,
    /// The servers that get our name.
    pub(crate) scope: ServerScope,
    pub(crate) work: Work,
    pub(crate) product: Product,
    pub(crate) screen: Screen,
    pub(crate) quiet: bool,
    /// Whether the built-in world is used, which has servers that block us.
    pub(crate) demo: bool,
    /// The address of the metrics server.
    pub(crate) metrics: Option<SocketAddr>,
    /// The limit for the bounce rate.
    pub(crate) gate: Option<BounceGate>,
}

/// What the run writes.
pub(crate) enum Product {
    /// A record for each row.
    Records(Target),
    /// The list with the rows to keep.
    List(CleanTarget),
}

impl Product {
    fn destinations(&mut self) -> Vec<&mut Destination> {
        match self {
            Self::Records(target) => vec![&mut target.destination],
            Self::List(target) => target.destinations().collect(),
        }
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Records(target) => target.destination.check(),
            Self::List(target) => target.check(),
        }
    }

    /// Returns the file or folder that the job stands beside. `None` for a pipe.
    fn place(&self) -> Option<&Path> {
        match self {
            Self::Records(target) => target.destination.file(),
            Self::List(target) => target.place(),
        }
    }
}

/// The rows to verify, and how to keep their verdicts.
pub(crate) enum Work {
    /// Reads rows and writes records as they come.
    Stream { rows: Rows, keep_order: bool },
    /// Keeps the verdicts in a job, which may exist already.
    Job(JobPlan),
}

pub(crate) struct JobPlan {
    pub(crate) path: PathBuf,
    pub(crate) sources: Vec<Source>,
    pub(crate) hints: Hints,
    /// The kind of the job, as the job stores it.
    pub(crate) kind: &'static str,
    /// How the lists were recognized, if the job exists.
    pub(crate) known_by: Option<MatchedBy>,
    /// The folder of a job that is deleted after the run.
    pub(crate) scratch: Option<TempDir>,
}

impl VerifyPlan {
    /// Makes the plan. It opens the inputs last, because standard input may block.
    pub(crate) fn new(args: &VerifyArgs, logging: bool) -> Result<Self> {
        Self::with(args, logging, |_| {
            Target::new(args.output.as_deref(), &args.records).map(Product::Records)
        })
    }

    /// Makes the plan to write the list with the rows to keep.
    pub(crate) fn to_clean(args: &VerifyArgs, rule: &CleanRuleArgs, logging: bool) -> Result<Self> {
        Self::with(args, logging, |sources| match sources {
            [Source::File(list)] if list.is_file() => {
                CleanTarget::new(rule, args.output.as_deref(), list).map(Product::List)
            }
            _ => Err(Failure::usage("clean takes one list, which is a file")
                .hint("clean several lists one by one; save standard input as a file first")),
        })
    }

    fn with(
        args: &VerifyArgs,
        logging: bool,
        product: impl FnOnce(&[Source]) -> Result<Product>,
    ) -> Result<Self> {
        let (world, inputs) = world(args)?;
        // In `--sandbox world.toml`, the file is not one of the inputs.
        let own_world = args.sandbox != Some(None) || inputs.len() < args.inputs.len();
        let sources = sources(inputs)?;
        let mut product = product(&sources)?;
        for destination in product.destinations() {
            protect_inputs(destination, args, &sources);
        }
        product.check()?;
        let routes = route::routes(&args.routes, args.port)?;
        let scope = match () {
            () if world.is_some() || args.syntax_only || all_routed(&sources, &routes) => ServerScope::Own,
            () if !args.routes.is_empty() => ServerScope::Routed,
            () => ServerScope::Public,
        };
        let (job, scratch) = match (job_path(product.place(), &sources)?, &product) {
            (None, Product::List(_)) => {
                let folder = TempDir::new().failed_at("a folder for the job")?;
                (Some(folder.path().join("clean.job")), Some(folder))
            }
            (job, _) => (job, None),
        };
        let config = config(args, scope, routes, job.is_some() && world.is_none())?;
        let kind = match () {
            () if args.syntax_only => FOR_SYNTAX,
            () if world.is_some() => FOR_SANDBOX,
            () => "to ask mail servers",
        };
        // Log lines and a progress line cannot share a terminal.
        let progress = match () {
            () if args.json_progress => ProgressMode::Json,
            () if args.quiet || logging => ProgressMode::None,
            () => ProgressMode::Human,
        };
        let screen = Screen::new(progress);
        let hints = hints(&args.lists);
        let work = match job {
            Some(path) => {
                let plan = job_plan(path, sources, hints, kind, args.restart)?;
                Work::Job(JobPlan { scratch, ..plan })
            }
            None if args.restart => {
                return Err(Failure::usage("--restart: these inputs make no job")
                    .hint("a job needs lists that are files, and an output that is a file"));
            }
            None => Work::Stream {
                rows: Rows::open(sources, &hints, screen.reporter())?,
                keep_order: args.keep_order,
            },
        };
        let (quiet, metrics, gate) = (args.quiet, args.metrics, args.gate);
        let demo = world.is_some() && !own_world;
        Ok(Self { config, world, scope, work, product, screen, quiet, demo, metrics, gate })
    }
}

/// Protects the input files from being replaced.
fn protect_inputs(destination: &mut Destination, args: &VerifyArgs, sources: &[Source]) {
    for source in sources {
        match source {
            Source::File(path) => destination.protect("the list", path),
            Source::Stdin => destination.protect_stdin("the list"),
            Source::Addresses(_) => {}
        }
    }
    let lists = [&args.role, &args.disposable, &args.free].into_iter().flatten();
    let files = [&args.rules, &args.providers, args.sandbox.as_ref().unwrap_or(&None)].into_iter().flatten();
    for path in lists.chain(files) {
        destination.protect("a file of another option", path);
    }
    // The file of the sandbox may be among the inputs.
    for path in args.inputs.iter().map(Path::new).filter(|path| path.is_file()) {
        destination.protect("one of the inputs", path);
    }
}

/// Returns the path of the job. `None` if a list or the output is no file, so that there can be no job.
fn job_path(output: Option<&Path>, sources: &[Source]) -> Result<Option<PathBuf>> {
    let is_list = |source: &Source| matches!(source, Source::File(path) if path.is_file());
    let Some(output) = output.filter(|_| sources.iter().all(is_list)) else {
        return Ok(None);
    };
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(Failure::usage(format_args!(
            "--output {}: there is no folder {}",
            FileName(output),
            FileName(folder)
        ))
        .hint("make the folder, or name another output"));
    }
    Ok(Some(job_of(output)))
}

fn job_plan(
    path: PathBuf,
    sources: Vec<Source>,
    hints: Hints,
    kind: &'static str,
    restart: bool,
) -> Result<JobPlan> {
    for file in job::files_of(&path) {
        let is_list = |source: &Source| matches!(source, Source::File(list) if is_same(list, &file));
        if let Some(list) = sources.iter().find(|source| is_list(source)) {
            return Err(Failure::usage(format_args!(
                "{list}: the job of this output would replace the list"
            ))
            .hint("name another output"));
        }
    }
    let mut known_by = None;
    if path.exists() && !restart {
        let checked = Job::open(&path).and_then(|job| job.check(&sources, kind));
        known_by = Some(checked.map_err(|error| {
            let hint = match &error {
                JobError::Foreign(_) => Some("move it away, or name another output"),
                JobError::Changed(_) | JobError::OtherKind(_) => Some(
                    "start the job again with --restart, which deletes its verdicts, or name another output",
                ),
                _ => None,
            };
            let failure = Failure::from(error).within(FileName(&path));
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?);
    }
    Ok(JobPlan { path, sources, hints, kind, known_by, scratch: None })
}

fn config(args: &VerifyArgs, scope: ServerScope, routes: Routes, retries: bool) -> Result<VerifierConfig> {
    let name = identity::client_name(args.helo.as_deref(), scope)?;
    let mut config = VerifierConfig::new(name);
    config.client.bind = args.bind;
    config.client.tls = args.tls.into();
    config.client.tls_config = Some(tls_config(config.client.tls, args.ca.as_deref())?);
    config.client.timeouts = Timeouts::all(seconds("--timeout", args.timeout, 0.001)?);
    config.from = args.from.parse::<ReversePath>().usage_at(format_args!("--from {}", args.from))?;
    config.schedule = schedule(args, retries)?;
    config.catch_all = !args.no_catch_all;
    config.risky = args.risky.as_deref().map_or(Ok(RiskPolicy::default()), risky)?;
    config.lists = Arc::new(lists(args)?);
    config.providers = args.providers.as_deref().map(providers).transpose()?;
    config.probe = !args.syntax_only;
    config.port = args.port;
    config.allow_private = args.allow_private;
    config.nameservers.clone_from(&args.nameservers);
    config.max_connections = args.max_connections.get();
    config.classifier = args.rules.as_deref().map(rules).transpose()?;
    config.routes = routes;
    Ok(config)
}

/// Returns the pauses between attempts. A stream and a sandbox ask once, because the user waits for the answer.
fn schedule(args: &VerifyArgs, retries: bool) -> Result<Vec<Duration>> {
    let pauses = args.retry_after.iter().map(|pause| seconds("--retry-after", *pause, 0.0));
    let pauses = pauses.collect::<Result<Vec<_>>>()?;
    let attempts = args.attempts.map(|attempts| attempts.get().min(1_000) as usize);
    let attempts = attempts.unwrap_or(if retries { pauses.len() + 1 } else { 1 });
    let last = pauses.last().copied().unwrap_or_default();
    Ok(pauses.into_iter().chain(std::iter::repeat(last)).take(attempts - 1).collect())
}

/// Reads the lists of the user, which are added to the built-in ones.
fn lists(args: &VerifyArgs) -> Result<Lists> {
    let mut lists = Lists::default();
    for (flag, paths, names, are_domains) in [
        ("--role", &args.role, &mut lists.roles, false),
        ("--disposable", &args.disposable, &mut lists.disposable, true),
        ("--free", &args.free, &mut lists.free, true),
    ] {
        for path in paths {
            read_names(path, names, are_domains)
                .map_err(|failure| failure.within(format_args!("{flag} {}", FileName(path))))?;
        }
    }
    Ok(lists)
}

fn read_names(path: &Path, names: &mut HashSet<Box<str>>, are_domains: bool) -> Result<()> {
    let text = read_text(path).usage_at("cannot be read")?;
    for (number, line) in (1..).zip(text.lines()) {
        let name = line.trim();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        names.insert(match are_domains {
            true => Domain::parse(name).usage_at(format_args!("line {number}"))?.as_str().into(),
            false => name.to_lowercase().into(),
        });
    }
    Ok(())
}

/// Returns the world of `--sandbox`, and the remaining inputs. It also accepts `--sandbox world.toml list.csv`. There
/// the value is an argument of its own, but no list of addresses is TOML.
fn world(args: &VerifyArgs) -> Result<(Option<World>, &[String])> {
    let is_toml = |name: &&String| Path::new(name).extension().is_some_and(|extension| extension == "toml");
    match (&args.sandbox, args.inputs.split_first()) {
        (None, _) => Ok((None, &args.inputs)),
        (Some(Some(path)), _) => Ok((Some(read_world(path)?), &args.inputs)),
        (Some(None), Some((path, inputs))) if is_toml(&path) => {
            Ok((Some(read_world(Path::new(path))?), inputs))
        }
        (Some(None), _) => Ok((Some(World::demo()), &args.inputs)),
    }
}

fn risky(kinds: &[RiskKind]) -> Result<RiskPolicy> {
    if kinds.contains(&RiskKind::None) && kinds.iter().any(|kind| *kind != RiskKind::None) {
        return Err(Failure::usage("--risky: none cannot stand beside another kind"));
    }
    let has = |kind| kinds.contains(&kind);
    let mut policy = RiskPolicy::default();
    (policy.role, policy.disposable) = (has(RiskKind::Role), has(RiskKind::Disposable));
    Ok(policy)
}

/// Returns whether every address is known to have a route. It reads no list.
fn all_routed(sources: &[Source], routes: &Routes) -> bool {
    let routed =
        |address: &String| Mailbox::parse(address).map_or(true, |it| routes.get(it.domain()).is_some());
    routes.get("*").is_some()
        || sources.iter().all(|source| matches!(source, Source::Addresses(all) if all.iter().all(routed)))
}
