//! What a run of `verify` will do, with everything found out that can be wrong before it starts.

use std::{fs, path::Path, sync::Arc, time::Duration};

use smtp_pool::{
    client::Timeouts,
    proto::{Mailbox, ReversePath},
    sandbox::World,
    verify::{Classifier, RiskPolicy, Routes, VerifierConfig},
};

use crate::{
    args::{Risk, VerifyArgs},
    exit::{At, Failure, Result},
    identity::{self, Audience},
    input::{Hints, Rows, Source},
    output::Target,
    progress::Screen,
    route,
};

pub(crate) struct Plan {
    pub(crate) config: VerifierConfig,
    /// Runs in place of the Internet.
    pub(crate) world: Option<World>,
    /// Who hears our name.
    pub(crate) audience: Audience,
    pub(crate) rows: Rows,
    pub(crate) target: Target,
    pub(crate) screen: Screen,
    pub(crate) quiet: bool,
}

impl Plan {
    /// Inputs are opened last, since standard input may take its time.
    pub(crate) fn new(args: &VerifyArgs, logging: bool) -> Result<Self> {
        let (world, inputs) = world(args)?;
        let target = Target::new(args.output.as_deref())?;
        let sources = sources(inputs)?;
        for source in &sources {
            if let Source::File(path) = source
                && target.is(path)
            {
                return Err(Failure::usage(format_args!("--output {}: this is the list", path.display()))
                    .hint("write to another file"));
            }
        }
        let routes = route::routes(&args.routes, args.port)?;
        let audience = match () {
            () if world.is_some() || args.syntax_only || all_routed(&sources, &routes) => Audience::Ours,
            () if !args.routes.is_empty() => Audience::Routed,
            () => Audience::World,
        };
        let config = config(args, audience, routes)?;
        // Log lines and a progress line do not go together.
        let screen = Screen::new(!args.quiet && !logging);
        let hints = Hints { format: args.format, column: args.column.clone() };
        let rows = Rows::open(sources, &hints, screen.clone())?;
        Ok(Self { config, world, audience, rows, target, screen, quiet: args.quiet })
    }
}

fn config(args: &VerifyArgs, audience: Audience, routes: Routes) -> Result<VerifierConfig> {
    let name = identity::client_name(args.helo.as_deref(), audience)?;
    let mut config = VerifierConfig::new(name);
    config.client.bind = args.bind;
    config.client.tls = args.tls.into();
    config.client.timeouts = Timeouts::all(seconds("--timeout", args.timeout, 0.001)?);
    config.from = args.from.parse::<ReversePath>().usage_at(format_args!("--from {}", args.from))?;
    let pause = seconds("--retry-after", args.retry_after, 0.0)?;
    config.schedule = vec![pause; args.attempts.get().min(1_000) as usize - 1];
    config.catch_all = !args.no_catch_all;
    config.risky = args.risky.as_deref().map_or(Ok(RiskPolicy::default()), risky)?;
    config.probe = !args.syntax_only;
    config.port = args.port;
    config.allow_private = args.allow_private;
    config.nameservers.clone_from(&args.nameservers);
    config.max_connections = args.max_connections.get();
    config.classifier = args.rules.as_deref().map(rules).transpose()?;
    config.routes = routes;
    Ok(config)
}

/// The world of `--sandbox`, and the inputs that remain. `--sandbox world.toml list.csv` is understood as well,
/// although without `=` the value is an argument by itself: no list of addresses is TOML.
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

pub(crate) fn read_world(path: &Path) -> Result<World> {
    let text = fs::read_to_string(path).usage_at(path.display())?;
    World::from_toml(&text)
        .usage_at(path.display())
        .map_err(|failure| failure.hint("`smtp-pool sandbox --print-world` prints one that works"))
}

pub(crate) fn rules(path: &Path) -> Result<Arc<Classifier>> {
    let text = fs::read_to_string(path).usage_at(path.display())?;
    let classifier = Classifier::from_toml(&text)
        .usage_at(path.display())
        .map_err(|failure| failure.hint("`smtp-pool explain --print-rules` prints the built-in rules"))?;
    Ok(Arc::new(classifier))
}

/// A span of time from the command line.
pub(crate) fn seconds(flag: &str, value: f64, least: f64) -> Result<Duration> {
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if (least..=31_536_000.0).contains(&value) => Ok(duration),
        _ => Err(Failure::usage(format_args!("{flag} {value}: not a usable number of seconds"))),
    }
}

fn sources(inputs: &[String]) -> Result<Vec<Source>> {
    use std::io::IsTerminal;
    match inputs {
        [] if std::io::stdin().is_terminal() => Err(Failure::usage("nothing to verify")
            .hint("name a list or an address; see smtp-pool verify --help")),
        [] => Ok(vec![Source::Stdin]),
        inputs => Source::of_arguments(inputs),
    }
}

fn risky(kinds: &[Risk]) -> Result<RiskPolicy> {
    if kinds.contains(&Risk::None) && kinds.iter().any(|kind| *kind != Risk::None) {
        return Err(Failure::usage("--risky: none stands alone"));
    }
    let has = |kind| kinds.contains(&kind);
    Ok(RiskPolicy { role: has(Risk::Role), disposable: has(Risk::Disposable) })
}

/// Whether no address can lead outside the routes, as far as can be told without reading a list.
fn all_routed(sources: &[Source], routes: &Routes) -> bool {
    let routed =
        |address: &String| Mailbox::parse(address).map_or(true, |it| routes.get(it.domain()).is_some());
    routes.get("*").is_some()
        || sources.iter().all(|source| matches!(source, Source::Addresses(all) if all.iter().all(routed)))
}
