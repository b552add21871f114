//! Checks the table of docs/configuration.md against the configuration.

use smtp_pool::pool::Config;

/// Defaults that no value stands for.
const IN_WORDS: [&str; 5] = ["none", "never", "any", "the host's name", "RFC 5321 4.5.3.2"];

#[test]
fn the_table_of_settings_has_each_key_and_its_default() {
    let error = Config::from_vars([("SMTP_NO_SUCH_KEY", "")]).unwrap_err().to_string();
    let known: Vec<&str> = error.split_once("known are ").unwrap().1.split(", ").collect();

    let (_, chapter) = include_str!("../../docs/configuration.md").split_once("## Keys\n").unwrap();
    let (section, _) = chapter.split_once("\n## ").unwrap();
    let mut said = Vec::new();
    for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let default = cells[1].trim_end_matches(" s").trim_matches('`');
        for key in cells[0].trim_end_matches('`').split("`, `") {
            said.push(key);
            if !IN_WORDS.contains(&default) {
                let name = format!("SMTP_{}", key.to_uppercase());
                assert_eq!(Config::from_vars([(name, default)]).unwrap(), Config::default(), "{key}");
            }
        }
    }
    assert_eq!(said, known);
}
