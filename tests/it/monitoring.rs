//! Checks that exposition, dashboard, alerts and documentation name the same metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use serde_json::Value;
use smtp_pool::metrics::Gauges;

#[path = "../../examples/exposition.rs"]
#[expect(dead_code, reason = "the example has a `main` of its own")]
mod exposition;

/// The type and the labels of each family, by its name.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// Labels that the scrape adds.
const OF_THE_SCRAPE: [&str; 2] = ["job", "instance"];

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Returns each family of the exposition.
fn families() -> Families {
    let pool: Arc<dyn Gauges> = Arc::new(exposition::Pool);
    let text = exposition::everything(&pool).snapshot().prometheus().to_string();
    let mut families = BTreeMap::new();
    let mut current = String::new();
    let mut series = BTreeSet::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            name.clone_into(&mut current);
            let before = families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
            assert_eq!(before, None, "{name} comes twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&current), "{line} in the midst of {current}");
            assert!(series.insert(line.rsplit_once(' ').unwrap().0), "{line} comes twice");
            let labels = line.split("=\"").map(|part| part.rsplit(['{', ',']).next().unwrap().to_owned());
            let (_, known) = families.get_mut(&current).unwrap();
            known.extend(labels.take(line.matches("=\"").count()));
        }
    }
    assert!(
        families.values().all(|(_, labels)| labels.contains("server")),
        "each has a sample: {families:?}"
    );
    families
}

/// Returns the families that a text names. Each must exist.
fn named(text: &str, families: &Families) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("smtp_") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let end = text[at..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len() - at);
        let name = &text[at..at + end];
        if name == "smtp_pool" {
            continue; // This is the name of the crate.
        }
        let family = ["_bucket", "_sum", "_count"]
            .into_iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|family| families.get(*family).is_some_and(|(kind, _)| kind == "histogram"))
            .unwrap_or(name);
        assert!(families.contains_key(family), "there is no metric {name}");
        found.insert(family.to_owned());
    }
    found
}

/// Returns the labels of a query, both in matchers and in groupings.
fn labels(query: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for group in query.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
        for matcher in group.split("\",") {
            found.insert(matcher.split(['=', '!']).next().unwrap().trim().to_owned());
        }
    }
    for keyword in [" by (", " on ("] {
        for group in query.split(keyword).skip(1).map(|rest| rest.split(')').next().unwrap()) {
            found.extend(group.split(',').map(|label| label.trim().to_owned()));
        }
    }
    found
}

/// Fails unless each metric and each label of a query exists.
fn assert_selects(query: &str, families: &Families) {
    let metrics = named(query, families);
    assert!(!metrics.is_empty(), "{query}");
    for name in metrics.iter().filter(|name| families[*name].0 == "histogram") {
        let bare = query.match_indices(name).any(|(at, _)| !query[at + name.len()..].starts_with('_'));
        assert!(!bare, "{name} has buckets, a sum and a count: {query}");
    }
    let known = |label: &str| {
        OF_THE_SCRAPE.contains(&label) || metrics.iter().any(|name| families[name].1.contains(label))
    };
    for label in labels(query) {
        assert!(known(&label), "no metric of {query} has a label {label}");
    }
}

fn missing(found: &BTreeSet<String>, families: &Families) -> Vec<String> {
    families.keys().filter(|name| !found.contains(*name)).cloned().collect()
}

/// Adds every value of the key `key`, at any depth.
fn values<'a>(json: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match json {
        Value::Object(map) => {
            for (name, value) in map {
                if name == key {
                    found.push(value);
                }
                values(value, key, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| values(value, key, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_draws_every_metric_and_no_other() {
    let families = families();
    let dashboard: Value = serde_json::from_str(&file("monitoring/grafana.json")).unwrap();
    let mut queries = Vec::new();
    values(&dashboard, "expr", &mut queries);
    assert!(queries.len() > 20, "{}", queries.len());
    let mut drawn = BTreeSet::new();
    for query in queries.iter().map(|query| query.as_str().unwrap()) {
        assert_selects(query, &families);
        drawn.extend(named(query, &families));
    }
    assert_eq!(missing(&drawn, &families), [""; 0], "not on the dashboard");
    let mut definitions = Vec::new();
    values(&dashboard, "definition", &mut definitions);
    for definition in definitions {
        assert!(!named(definition.as_str().unwrap(), &families).is_empty(), "{definition}");
    }

    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "an id each");
    let place = |panel: &Value| ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
    for (index, one) in panels.iter().enumerate() {
        let [x, y, w, h] = place(one);
        assert!(x + w <= 24, "{}", one["title"]);
        for other in &panels[index + 1..] {
            let [u, v, width, height] = place(other);
            let apart = x + w <= u || u + width <= x || y + h <= v || v + height <= y;
            assert!(apart, "{} covers {}", one["title"], other["title"]);
        }
    }
}

#[test]
fn alerts_are_about_metrics_that_exist_and_each_is_tested() {
    let families = families();
    let (alerts, tests) = (file("monitoring/alerts.yml"), file("monitoring/alerts_test.yml"));
    named(&tests, &families);
    let mut count = 0;
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let (query, _) = alert.split_once("labels:").unwrap();
        assert_selects(query, &families);
        // Comments that name a metric name one that exists.
        named(alert, &families);
        let of_it: Vec<_> =
            tests.split("- alertname: ").filter(|test| test.lines().next() == Some(name)).collect();
        assert!(of_it.iter().any(|test| test.contains("exp_labels")), "{name} fires in no test");
        count += 1;
    }
    assert!(count > 10, "{count}");
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let families = families();
    let (page, docs) = (file("docs/metrics.md"), file("src/metrics/mod.rs"));
    let chapter =
        page.split("\n## ").find(|chapter| chapter.starts_with("Metrics of the library\n")).unwrap();
    for (text, place) in [(chapter, "docs/metrics.md"), (&docs, "src/metrics/mod.rs")] {
        assert_eq!(missing(&named(text, &families), &families), [""; 0], "not in {place}");
    }
    // The table has type and labels.
    let rows: Vec<_> = docs.lines().filter(|line| line.starts_with("//! | `smtp_")).collect();
    assert_eq!(rows.len(), families.len());
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let (kind, labels) = &families[cells[1].trim_matches('`')];
        assert_eq!(cells[2], kind, "{row}");
        let told: BTreeSet<_> =
            cells[3].split(", ").map(|label| label.trim_matches('`').to_owned()).collect();
        let mut labels = labels.clone();
        labels.remove("le");
        assert_eq!(told, labels, "{row}");
    }
}
