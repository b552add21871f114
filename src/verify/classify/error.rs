//! The errors of a file of rules.

/// Why a table of rules is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The text is not TOML, or a key is unknown, missing or of the wrong type. The message names the line.
    #[error("the rules are not well-formed: {0}")]
    Syntax(String),
    /// The table has no rule and no word.
    #[error("the table has no rule and no word")]
    Empty,
    /// A rule is invalid.
    #[error("rule `{id}`, key `{key}`: {problem}")]
    Rule {
        /// The `id` of the rule.
        id: String,
        /// The invalid key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The words of a section are invalid.
    #[error("`{section}`: {problem}")]
    Words {
        /// The section of the file, with the language if it has one.
        section: String,
        /// What is wrong.
        problem: String,
    },
    /// The table has more rules or phrases than the engine supports.
    #[error("too many {0}: at most {1}")]
    TooMany(&'static str, usize),
}
