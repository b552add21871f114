//! What can be wrong with a file of rules.

/// Why a table of rules was refused.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not TOML, an unknown key, a missing one, or a value of the wrong kind; the message gives the line.
    #[error("the rules are not well-formed: {0}")]
    Syntax(String),
    /// There is nothing in it.
    #[error("there is no rule in the table, and no word")]
    Empty,
    /// A rule that makes no sense.
    #[error("rule `{id}`, key `{key}`: {problem}")]
    Rule {
        /// The rule's `id`.
        id: String,
        /// The key at fault.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Words that make no sense.
    #[error("`{section}`: {problem}")]
    Words {
        /// The section of the file, and the language.
        section: String,
        /// What is wrong.
        problem: String,
    },
    /// More rules or phrases than the engine has room for.
    #[error("too many {0}: at most {1}")]
    TooMany(&'static str, usize),
}
