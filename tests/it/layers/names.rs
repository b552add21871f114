//! One name means one thing: no two modules have a type of the same name that others see.

use std::collections::BTreeMap;

use super::source::{self, Outline, Source};

/// Names that two layers share on purpose. Users name them with their module: `blocking::Pool` is `pool::Pool` without
/// async, and has its methods. A file's own `Result` is the idiom of the standard library.
const SHARED_ON_PURPOSE: &[(&str, &[&str])] = &[
    ("Connection", &["blocking", "client"]),
    ("Connector", &["blocking", "client"]),
    ("HealthHandle", &["blocking", "pool"]),
    ("HealthManager", &["blocking", "pool"]),
    ("Pool", &["blocking", "pool"]),
    ("PooledConnection", &["blocking", "pool"]),
    ("Records", &["blocking", "verify"]),
    ("Result", &["bin", "job"]),
    ("Verifier", &["blocking", "verify"]),
];

/// Returns the files that have a type of each name which others see.
fn owners(sources: &[Source]) -> BTreeMap<String, Vec<&Source>> {
    let mut owners: BTreeMap<String, Vec<&Source>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        for name in Outline::of(source).types {
            owners.entry(name).or_default().push(source);
        }
    }
    owners
}

/// Returns the names of types that several files have and may not share, with these files.
fn shared(sources: &[Source]) -> BTreeMap<String, Vec<String>> {
    let mut owners = owners(sources);
    owners.retain(|name, owners| {
        let layers: Vec<_> = owners.iter().map(|source| source.layer()).collect();
        let on_purpose = SHARED_ON_PURPOSE.iter().any(|known| known.0 == name && layers == known.1);
        owners.len() > 1 && !on_purpose
    });
    let paths =
        |owners: Vec<&Source>| owners.iter().map(|source| source.path.display().to_string()).collect();
    owners.into_iter().map(|(name, owners)| (name, paths(owners))).collect()
}

#[test]
fn no_two_modules_share_the_name_of_a_type() {
    let sources = source::all();
    let found = shared(&sources);
    assert!(found.is_empty(), "names of more than one type: {found:#?}");
    let owners = owners(&sources);
    let has = |name, layer| {
        owners.get(name).is_some_and(|owners| owners.iter().any(|source| source.layer() == layer))
    };
    for (name, layers) in SHARED_ON_PURPOSE {
        assert!(layers.iter().all(|layer| has(*name, *layer)), "take {name} out of SHARED_ON_PURPOSE");
    }
}

#[test]
fn a_planted_double_name_is_found_in_every_form() {
    for planted in [
        "pub struct Flight;",
        "pub(super) enum Flight { A }",
        "pub(crate) type Flight = u8;",
        "pub(in crate::job) unsafe trait Flight {}",
        "mod inline {\n    pub(super) struct Flight<T>(T);\n}",
    ] {
        let files = [
            Source::new("job/flight.rs", "pub(super) struct Flight;"),
            Source::new("verify/lane.rs", planted),
        ];
        let found = shared(&files);
        assert_eq!(found.into_keys().collect::<Vec<_>>(), ["Flight"], "{planted}");
    }
    for harmless in [
        "struct Flight;",
        "pub(super) fn flight() -> Flight { Flight }",
        "// pub struct Flight;",
        "trait Way { type Flight; }",
        "pub const fn one() {}\nenum Flight { A }",
        "#[cfg(test)]\nmod tests {\n    pub struct Flight;\n}",
    ] {
        let files = [
            Source::new("job/flight.rs", "pub(super) struct Flight;"),
            Source::new("verify/lane.rs", harmless),
        ];
        assert_eq!(shared(&files).len(), 0, "{harmless}");
    }
}

#[test]
fn a_name_may_be_shared_by_the_two_layers_it_was_granted_to() {
    let file = |path| Source::new(path, "pub struct Pool;");
    assert!(shared(&[file("blocking/pool.rs"), file("pool/pool.rs")]).is_empty());
    assert_eq!(shared(&[file("blocking/pool.rs"), file("net/pool.rs")]).len(), 1);
    assert_eq!(shared(&[file("blocking/pool.rs"), file("pool/a.rs"), file("pool/b.rs")]).len(), 1);
}
