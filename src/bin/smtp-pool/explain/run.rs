//! Explains the replies in the arguments or on standard input.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use smtp_pool::{
    job::input::Lines,
    verify::{
        Blame, Classifier, Predicate, Retry, Stage, Status, SubStatus, Subject, decode_text, reply_text,
    },
};

use super::{
    args::ExplainArgs,
    find::{self, DeliveryResult, Found},
    log,
    no_reply::NoReply,
};
use crate::{
    escape::Escaped,
    exit::{ErrorContext, Exit, Failure, Result},
    options,
    summary::variant_name,
    terminal::Terminal,
};

pub(crate) fn run(args: &ExplainArgs) -> Result<Exit> {
    let mut out = Terminal::out().buffered();
    let done = explain(args, &mut out)?;
    match out.flush().or_else(ignore_closed_pipe) {
        Ok(()) => Ok(done),
        Err(error) => Err(error).failed_at("standard output"),
    }
}

/// Ignores the error of a pipe that its reader has closed, as `head` does.
fn ignore_closed_pipe(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

fn explain(args: &ExplainArgs, out: &mut Terminal<impl Write>) -> Result<Exit> {
    if args.print_rules {
        out.built_in(Classifier::BUILTIN_RULES).or_else(ignore_closed_pipe).failed_at("standard output")?;
        return Ok(Exit::Done);
    }
    let stage = args.stage.parse().usage_at("--stage")?;
    let own: Option<Arc<Classifier>> = args.rules.as_deref().map(options::rules).transpose()?;
    let classifier = own.as_deref().unwrap_or_else(|| Classifier::builtin());
    let explainer = Explainer { classifier, stage, json: args.json };
    match &args.replies[..] {
        [] if io::stdin().is_terminal() => Err(Failure::usage("no reply is given")
            .hint("name one, as in smtp-pool explain '550 5.1.1 User unknown'")),
        [] => explainer.lines(out),
        [dash] if dash == "-" => explainer.lines(out),
        replies => explainer.arguments(&join_arguments(replies), out),
    }
}

/// Joins the arguments if they are one reply without quotes, as in `explain 550 5.1.1 User unknown`.
fn join_arguments(arguments: &[String]) -> Vec<String> {
    match arguments {
        [code, _, ..] if code.len() == 3 && code.bytes().all(|octet| octet.is_ascii_digit()) => {
            vec![arguments.join(" ")]
        }
        _ => arguments.to_vec(),
    }
}

/// The rule in the output for a reply whose lines have different codes.
const MIXED_CODES: &str = "codes-differ";

struct Explainer<'a> {
    classifier: &'a Classifier,
    /// The command that a reply answers, if the input does not say.
    stage: Stage,
    json: bool,
}

/// A line of input that is a JSON object. Other fields are ignored.
#[derive(Deserialize)]
struct ReplyQuery {
    reply: String,
    #[serde(default)]
    stage: Option<String>,
}

/// A line of output.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Explanation<'a> {
    status: Status,
    sub_status: SubStatus,
    blame: Option<Blame>,
    retry: Option<Retry>,
    /// `None` if there was no reply to explain.
    rule: Option<&'a str>,
    /// Who the reply speaks about.
    subject: Option<Subject>,
    /// What it says about them, if its words decided.
    predicate: Option<Predicate>,
}

/// An explanation as JSON, with its place in the input.
#[derive(Debug, Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    explanation: Explanation<'a>,
    /// The number of the line, or of the argument, from 1.
    line: u64,
    /// The reply, or the line if it holds none.
    reply: &'a str,
    /// The queue ID of a log line.
    queue_id: Option<&'a str>,
    /// The recipient that a log line names.
    to: Option<&'a str>,
}

impl<'a> Explainer<'a> {
    fn arguments(&self, replies: &[String], out: &mut Terminal<impl Write>) -> Result<Exit> {
        let mut exit = Exit::Done;
        for (n, text) in replies.iter().enumerate() {
            let found = find::find(text).map_err(|error| error.to_string());
            let answer = match &found {
                Ok(found) => self.answer(found),
                Err(error) => {
                    exit = Exit::Usage;
                    report_error(format_args!("argument {}", n + 1), error);
                    Explanation::none()
                }
            };
            let gap = if n > 0 { "\n" } else { "" };
            let written = match (&found, self.json) {
                (found, true) => {
                    let words = found.as_ref().map_or_else(|_| text.clone(), |found| found.words(text));
                    self.line(out, &answer, &words, n as u64 + 1, text)
                }
                (Ok(found), false) => out.lines(format_args!("{gap}{}", answer.block(&found.words(text)))),
                (Err(_), false) => Ok(()),
            };
            written.or_else(ignore_closed_pipe).failed_at("standard output")?;
        }
        Ok(exit)
    }

    /// Writes one line of output for each line of input that is not blank.
    fn lines(&self, out: &mut Terminal<impl Write>) -> Result<Exit> {
        let mut lines = Lines::new(io::BufReader::new(io::stdin()));
        let mut exit = Exit::Done;
        loop {
            // Output is flushed before a read that may wait: the other side may need the answer first.
            if !lines.input().buffer().contains(&b'\n') {
                out.flush().or_else(ignore_closed_pipe).failed_at("standard output")?;
            }
            let Some(line) = lines.next_filled().failed_at("standard input")? else { return Ok(exit) };
            let text = decode_text(line.octets.trim_ascii());
            let (answer, words) = match self.read(&text) {
                Ok(found) => (self.answer(&found), found.words(&text)),
                Err(error) => {
                    exit = Exit::Usage;
                    report_error(format_args!("standard input:{}", line.number), &error);
                    (Explanation::none(), text.clone().into_owned())
                }
            };
            match self.line(out, &answer, &words, line.number, &text) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(exit),
                written => written.failed_at("standard output")?,
            }
        }
    }

    fn read(&self, line: &str) -> std::result::Result<Found, String> {
        if !line.starts_with('{') {
            return find::find(line).map_err(|error| error.to_string());
        }
        let query: ReplyQuery =
            serde_json::from_str(line).map_err(|error| format!("not an object with `reply`: {error}"))?;
        let stage = query.stage.map(|stage| stage.parse()).transpose();
        let stage = stage.map_err(|error: smtp_pool::verify::UnknownStage| error.to_string())?;
        let found = find::find(&query.reply).map_err(|error| error.to_string())?;
        Ok(Found { stage: stage.or(found.stage), ..found })
    }

    fn answer(&self, found: &Found) -> Explanation<'a> {
        let reply = match &found.result {
            DeliveryResult::Reply(reply) => reply,
            DeliveryResult::NoReply(reason) => return Explanation::without_reply(reason),
        };
        if reply.has_mixed_codes() {
            let (blame, retry) = (Some(Blame::Server), Some(Retry::Later));
            return Explanation { blame, retry, rule: Some(MIXED_CODES), ..Explanation::none() };
        }
        let stage = found.stage.unwrap_or(self.stage);
        let said = self.classifier.classify(stage, reply.code(), reply.enhanced(), &reply_text(reply));
        Explanation {
            status: said.verdict.status(),
            sub_status: said.verdict.sub_status,
            blame: said.verdict.blame,
            retry: said.verdict.retry,
            rule: Some(said.rule),
            subject: said.verdict.subject,
            predicate: said.predicate,
        }
    }

    fn line(
        &self,
        out: &mut Terminal<impl Write>,
        answer: &Explanation<'_>,
        words: &str,
        line: u64,
        text: &str,
    ) -> io::Result<()> {
        if self.json {
            // An object has fields of its own for these.
            let log_line = if text.starts_with('{') { "" } else { text };
            return out.json(&Explained {
                explanation: answer.clone(),
                line,
                reply: words,
                queue_id: log::queue_id(log_line),
                to: log::recipient(log_line),
            });
        }
        let Explanation { status, sub_status, rule, .. } = answer;
        let by = match rule {
            Some(rule) => format!("{}, retry {}, rule {rule}", answer.blamed(), answer.retried()),
            None => "no reply".into(),
        };
        out.line(format_args!("{}/{}: {by}: {words}", variant_name(status), variant_name(sub_status)))
    }
}

impl Explanation<'_> {
    /// Returns the explanation for input that is no reply. Standard error says what is wrong with it.
    fn none() -> Self {
        let sub_status = SubStatus::ProtocolError;
        let status = sub_status.status();
        Self { status, sub_status, blame: None, retry: None, rule: None, subject: None, predicate: None }
    }

    /// Returns the explanation for a log line that says why there was no reply.
    fn without_reply(reason: &NoReply) -> Self {
        Self {
            status: reason.sub_status.status(),
            sub_status: reason.sub_status,
            blame: Some(reason.blame),
            retry: Some(Retry::Later),
            rule: Some(reason.rule),
            subject: None,
            predicate: None,
        }
    }

    fn block(&self, words: &str) -> String {
        format!(
            "{}\n  verdict  {}, {}\n  who      {}\n  what     {}\n  blame    {}\n  retry    {}\n  rule     {}\n",
            Escaped(words),
            variant_name(&self.status),
            variant_name(&self.sub_status),
            self.subject.map_or("not named".into(), |subject| subject.as_str().replace('_', " ")),
            self.predicate
                .map_or("as the rule says".into(), |predicate| predicate.as_str().replace('_', " ")),
            self.blamed(),
            self.retried(),
            Escaped(self.rule.unwrap_or_default()),
        )
    }

    fn blamed(&self) -> &'static str {
        match self.blame {
            Some(Blame::Recipient) => "the recipient (the mailbox or its domain)",
            Some(Blame::Us) => "the sender's side (IP address, name, reputation or rate)",
            Some(Blame::Policy) => "a policy on senders or content (it applies to every client)",
            Some(Blame::Server) => "the server (broken, busy or shutting down)",
            Some(Blame::Network) => "the network",
            Some(other) => other.as_str(),
            None => "nobody",
        }
    }

    fn retried(&self) -> &'static str {
        match self.retry {
            Some(Retry::NextTransaction) => "at once, in another transaction",
            Some(Retry::NextConnection) => "at once, on another connection",
            Some(Retry::OverIpv4) => "at once, over IPv4",
            Some(Retry::Later) => "later, from the same address",
            Some(_) => "yes",
            None => "no",
        }
    }
}

fn report_error(place: impl std::fmt::Display, error: &str) {
    // If standard error is closed, the error cannot be reported anywhere.
    let _ = Terminal::err().line(format_args!("{place}: {error}"));
}
