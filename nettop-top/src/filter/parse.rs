//! From what was typed to a filter: words, then what they say, by precedence of `not`, `and`, `or`.

use regex::RegexBuilder;

use super::node::{AMOUNTS, FIELDS, Field, Node, Pattern};
use crate::units;

/// What a regular expression may take, compiled.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// Parentheses in each other.
const MAX_DEPTH: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    /// What is before a colon, and what is wanted; whether that is a regular expression.
    Word(Option<String>, String, bool),
    Number(String, bool, String),
}

/// None if nothing was typed.
pub(super) fn parse(text: &str) -> Result<Option<Node>, String> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), depth: 0 };
    let node = parser.or()?;
    match parser.tokens.next() {
        None => Ok(Some(node)),
        Some(_) => Err("there is no ( before )".into()),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            _ => word(rest)?,
        };
        tokens.push(taken.0);
        rest = rest[taken.1..].trim_start();
    }
    Ok(tokens)
}

/// A word, and how long it is.
fn word(text: &str) -> Result<(Token, usize), String> {
    let name = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (before, after) = text.split_at(name);
    match after.chars().next() {
        Some(':') if !before.is_empty() => {
            let (what, is_regex, length) = value(&after[1..])?;
            if what.is_empty() {
                return Err(format!("'{before}:' needs a word"));
            }
            Ok((Token::Word(Some(before.to_ascii_lowercase()), what, is_regex), name + 1 + length))
        }
        Some(sign @ ('>' | '<')) if !before.is_empty() => {
            let (amount, _, length) = value(&after[1..])?;
            Ok((Token::Number(before.to_ascii_lowercase(), sign == '>', amount), name + 1 + length))
        }
        _ => {
            let (what, is_regex, length) = value(text)?;
            let is_plain = !is_regex && !text.starts_with('"');
            let token = match what.to_ascii_lowercase().as_str() {
                "and" if is_plain => Token::And,
                "or" if is_plain => Token::Or,
                "not" if is_plain => Token::Not,
                _ => Token::Word(None, what, is_regex),
            };
            Ok((token, length))
        }
    }
}

/// Up to a blank or parenthesis, or between quotes or slashes.
fn value(text: &str) -> Result<(String, bool, usize), String> {
    for (quote, is_regex) in [('"', false), ('/', true)] {
        if let Some(inner) = text.strip_prefix(quote) {
            let end = inner.find(quote).ok_or_else(|| format!("the {quote} at its end is missing"))?;
            return Ok((inner[..end].to_owned(), is_regex, end + 2));
        }
    }
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')')).unwrap_or(text.len());
    Ok((text[..end].to_owned(), false, end))
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Parser {
    fn or(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.and()?];
        while self.tokens.next_if_eq(&Token::Or).is_some() {
            nodes.push(self.and()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Or(nodes) })
    }

    /// Two words beside each other are both wanted.
    fn and(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.not()?];
        loop {
            match self.tokens.peek() {
                Some(Token::And) => drop(self.tokens.next()),
                None | Some(Token::Or | Token::Close) => break,
                Some(_) => {}
            }
            nodes.push(self.not()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::And(nodes) })
    }

    fn not(&mut self) -> Result<Node, String> {
        let mut is_not = false;
        while self.tokens.next_if_eq(&Token::Not).is_some() {
            is_not = !is_not;
        }
        let node = self.one()?;
        Ok(if is_not { Node::Not(Box::new(node)) } else { node })
    }

    fn one(&mut self) -> Result<Node, String> {
        match self.tokens.next() {
            None => Err("something is missing at the end".into()),
            Some(Token::And) => Err("something is missing before 'and'".into()),
            Some(Token::Or) => Err("something is missing before 'or'".into()),
            Some(Token::Close) => Err("there is no ( before )".into()),
            // Whoever asks has taken them.
            Some(Token::Not) => Err("something is missing behind 'not'".into()),
            Some(Token::Open) => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(format!("more than {MAX_DEPTH} ( in each other"));
                }
                let node = self.or()?;
                self.depth -= 1;
                match self.tokens.next() {
                    Some(Token::Close) => Ok(node),
                    _ => Err("a ) is missing".into()),
                }
            }
            Some(Token::Word(field, what, is_regex)) => text(field, what, is_regex),
            Some(Token::Number(name, is_more, amount)) => number(&name, is_more, &amount),
        }
    }
}

fn text(field: Option<String>, what: String, is_regex: bool) -> Result<Node, String> {
    let field = match field {
        None => None,
        Some(name) => match FIELDS.iter().find(|(known, _)| *known == name) {
            Some((_, field)) => Some(*field),
            None => return Err(format!("'{name}' is no field: {}", FIELDS.map(|(name, _)| name).join(", "))),
        },
    };
    let pattern = if is_regex {
        let regex = RegexBuilder::new(&what).size_limit(MAX_REGEX_BYTES).build();
        Pattern::Regex(regex.map_err(|_| format!("'/{what}/' is no regular expression"))?)
    } else if matches!(field, Some(Field::Pid | Field::Port)) {
        Pattern::Whole(what)
    } else {
        Pattern::Part(what.to_lowercase())
    };
    Ok(Node::Text(field, pattern))
}

fn number(name: &str, is_more: bool, amount: &str) -> Result<Node, String> {
    let Some((_, what)) = AMOUNTS.iter().find(|(known, _)| *known == name) else {
        return Err(format!("'{name}' is no amount: {}", AMOUNTS.map(|(name, _)| name).join(", ")));
    };
    let sign = if is_more { '>' } else { '<' };
    let amount = units::parse(amount).ok_or_else(|| format!("'{name}{sign}' needs an amount, as {name}{sign}1M"))?;
    Ok(Node::Number(*what, is_more, amount))
}
