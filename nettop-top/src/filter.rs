//! Which rows are wanted: words, fields, patterns and amounts, with `and`, `or`, `not` and parentheses.
//!
//! A row that its names rule out is left out of the sums; amounts are asked of the line that the rest adds up to.

mod node;
mod parse;

use self::node::Node;
pub use self::node::{AMOUNTS, FIELDS, Field, Numbers, Subject};

/// What was typed. The default is no filter: everything is wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter(Option<Node>);

impl Filter {
    /// Reads what was typed.
    ///
    /// # Errors
    ///
    /// If it is no filter, or not yet: the message is a part of a line that says what is wrong, and what may be typed.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::parse(text).map(Self)
    }

    /// Whether everything is wanted.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a row is wanted, if that is known without its line's numbers.
    pub fn admits_names(&self, subject: &dyn Subject) -> Option<bool> {
        self.0.as_ref().map_or(Some(true), |node| node.holds(subject, None))
    }

    /// Whether a row is wanted in a line with these numbers.
    pub fn admits(&self, subject: &dyn Subject, numbers: &Numbers) -> bool {
        self.0.as_ref().is_none_or(|node| node.holds(subject, Some(numbers)).unwrap_or(true))
    }
}

/// Whether a text is a filter.
///
/// # Errors
///
/// If it is none: the message says what is wrong, and what may be typed.
pub fn check(text: &str) -> Result<(), String> {
    Filter::parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nginx;

    impl Subject for Nginx {
        fn any(&self, field: Field, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool {
            let texts: &[&str] = match field {
                Field::Program => &["/usr/sbin/nginx", "nginx"],
                Field::Unit => &["nginx.service"],
                Field::User => &["www-data", "33"],
                Field::Pid => &["812"],
                Field::Dev => &["eth0"],
                Field::Port => &["443", "50211"],
                _ => &[],
            };
            texts.iter().any(|text| is_wanted(text))
        }
    }

    fn admits(text: &str) -> bool {
        let numbers = Numbers { tx: 2_000_000, rx: 10, drops: 3, retransmits: 0 };
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let wanted = filter.admits(&Nginx, &numbers);
        assert!(filter.admits_names(&Nginx).is_none_or(|known| known == wanted), "{text}");
        wanted
    }

    #[test]
    fn a_row_is_found_by_each_of_its_names_and_amounts() {
        for text in [
            "",
            "ngi",
            "NGINX",
            "program:nginx user:www",
            "pid:812",
            "port:443",
            "dev:eth0 and tx>1M",
            "tx>1.9M",
            "rx<11",
            "drops>2",
            "/^ng.nx$/",
            "program:/sbin/",
            "not ssh",
            "ssh or nginx",
            "not (ssh or curl) and nginx",
            "retr<1",
            "\"www-data\"",
        ] {
            assert!(admits(text), "{text}");
        }
        for text in [
            "ssh",
            "pid:81",
            "port:44",
            "tx>2M",
            "not nginx",
            "ssh and nginx",
            "unit:www",
            "rx>10",
            "peer:10",
            "tx>1M and dev:lo",
        ] {
            assert!(!admits(text), "{text}");
        }
    }

    #[test]
    fn names_decide_alone_where_they_can() {
        let known = |text: &str| Filter::parse(text).unwrap().admits_names(&Nginx);
        assert_eq!(known("dev:lo and tx>1M"), Some(false));
        assert_eq!(known("dev:eth0 or tx>1M"), Some(true));
        assert_eq!([known("not tx>1M"), known("dev:eth0 and tx>1M")], [None, None]);
    }

    #[test]
    fn what_is_no_filter_is_said_in_a_few_words() {
        for (text, error) in [
            ("(a", "a ) is missing"),
            ("a)", "there is no ( before )"),
            ("a and", "something is missing at the end"),
            ("or a", "something is missing before 'or'"),
            ("tx>", "'tx>' needs an amount, as tx>1M"),
            ("tx>fast", "'tx>' needs an amount, as tx>1M"),
            ("speed>1", "'speed' is no amount: tx, rx, all, drops, retr"),
            ("colour:red", "'colour' is no field: program, unit, container, user, pid, dev, peer, port, state, reason"),
            ("unit:", "'unit:' needs a word"),
            ("/(/", "'/(/' is no regular expression"),
            ("/a", "the / at its end is missing"),
        ] {
            assert_eq!(Filter::parse(text).unwrap_err(), error, "{text}");
        }
    }
}
