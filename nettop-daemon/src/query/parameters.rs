//! A question as parameters of a URL, as the client writes and the API reads them. Both have names and values from the
//! question's type.

use clap::ValueEnum;
use nettop_history::Condition;
use nettop_model::By;

use super::selector::{Selector, names_a_host};

/// A question that can be asked in a URL.
pub trait Query: Default {
    /// Parameters, and those that each excludes.
    const EXCLUDES: &'static [(&'static str, &'static [&'static str])] = &[];

    /// All members, by the names of their flags.
    fn parameters(&mut self) -> Parameters<'_>;
}

pub type Parameters<'a> = Vec<(&'static str, &'a mut dyn Parameter)>;

/// A member of a question: a flag, a value, or several.
pub trait Parameter {
    /// Takes a value.
    ///
    /// # Errors
    ///
    /// If it is none, with what is allowed.
    fn read(&mut self, text: &str) -> Result<(), String>;

    /// What has to be read to have the same.
    fn write(&self) -> Vec<String>;

    /// Whether it may be given several times.
    fn may_repeat(&self) -> bool {
        false
    }
}

/// A question as it is asked.
///
/// # Errors
///
/// If a parameter is unknown, has no such value, or cannot be given with another.
pub fn read<Q: Query>(text: &str) -> Result<Q, String> {
    let mut query = Q::default();
    let mut parameters = query.parameters();
    let mut given = Vec::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let Some((name, parameter)) = parameters.iter_mut().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = parameters.iter().map(|(name, _)| *name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!("there is no parameter '{name}' here; there is {known}"));
        };
        if given.contains(name) && !parameter.may_repeat() {
            return Err(format!("the parameter '{name}' cannot be used multiple times"));
        }
        parameter.read(&value).map_err(|error| format!("invalid value '{value}' for '{name}': {error}"))?;
        // A flag of 0 is as if it were not given.
        if !parameter.write().is_empty() {
            given.push(*name);
        }
    }
    for (name, others) in Q::EXCLUDES.iter().filter(|(name, _)| given.contains(name)) {
        if let Some(other) = others.iter().find(|other| given.contains(*other)) {
            return Err(format!("the parameter '{name}' cannot be used with '{other}'"));
        }
    }
    Ok(query)
}

/// A path with the question.
pub fn write(path: &str, mut query: impl Query) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, parameter) in query.parameters() {
        text.extend_pairs(parameter.write().iter().map(|value| (name, value)));
    }
    let text = text.finish();
    if text.is_empty() { path.to_owned() } else { format!("{path}?{text}") }
}

impl Parameter for bool {
    fn read(&mut self, text: &str) -> Result<(), String> {
        *self = match text {
            "" | "1" | "true" => true,
            "0" | "false" => false,
            _ => return Err("give 1 or 0".to_owned()),
        };
        Ok(())
    }

    fn write(&self) -> Vec<String> {
        if *self { vec!["1".to_owned()] } else { Vec::new() }
    }
}

impl<T: Value> Parameter for T {
    fn read(&mut self, text: &str) -> Result<(), String> {
        T::from_text(text).map(|value| *self = value)
    }

    fn write(&self) -> Vec<String> {
        self.texts()
    }
}

impl<T: Value> Parameter for Option<T> {
    fn read(&mut self, text: &str) -> Result<(), String> {
        T::from_text(text).map(|value| *self = Some(value))
    }

    fn write(&self) -> Vec<String> {
        self.iter().flat_map(T::texts).collect()
    }
}

impl<T: Value> Parameter for Vec<T> {
    fn read(&mut self, text: &str) -> Result<(), String> {
        T::from_text(text).map(|value| self.push(value))
    }

    fn write(&self) -> Vec<String> {
        self.iter().flat_map(T::texts).collect()
    }

    fn may_repeat(&self) -> bool {
        true
    }
}

/// A value of a flag, as the flag takes it.
pub trait Value: Sized {
    /// # Errors
    ///
    /// If it is none, with what is allowed.
    fn from_text(text: &str) -> Result<Self, String>;

    /// It as text, or as several that together have its meaning.
    fn texts(&self) -> Vec<String>;
}

macro_rules! plain {
    ($($plain:ty),*) => {$(
        impl Value for $plain {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse::<Self>().map_err(|error| error.to_string())
            }

            fn texts(&self) -> Vec<String> {
                vec![self.to_string()]
            }
        }
    )*};
}

plain!(u32, usize, String, Condition);

/// One of a flag's words.
///
/// # Errors
///
/// If it is none, with all that there are.
pub fn word<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let names: Vec<String> = T::value_variants().iter().flat_map(texts).collect();
        format!("give one of {}", names.join(", "))
    })
}

/// The word, as [`word`] reads it.
pub fn texts(word: &impl ValueEnum) -> Vec<String> {
    word.to_possible_value().iter().map(|value| value.get_name().to_owned()).collect()
}

impl Value for By {
    fn from_text(text: &str) -> Result<Self, String> {
        word(text)
    }

    fn texts(&self) -> Vec<String> {
        texts(self)
    }
}

impl Value for Selector {
    fn from_text(text: &str) -> Result<Self, String> {
        if names_a_host(text) {
            return Err("a host is given by its address; the daemon asks no name server".to_owned());
        }
        text.parse()
    }

    fn texts(&self) -> Vec<String> {
        self.by_number()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use clap::Args;

    use super::*;
    use crate::query::{
        history::HistoryQuery,
        report::{DropsQuery, Selection, SnapshotQuery, StreamQuery},
        sockets::SocketsQuery,
    };

    fn definition<T: Args>() -> clap::Command {
        T::augment_args(clap::Command::new("x").no_binary_name(true))
    }

    /// Flags give the same question as the parameters that are made of it.
    fn assert_same<T: Args + Query + Clone + Debug>(words: &[&str]) {
        let of_flags = T::from_arg_matches(&definition::<T>().get_matches_from(words)).unwrap();
        let url = write("/x", of_flags.clone());
        let of_url: T = read(url.split_once('?').map_or("", |(_, text)| text)).unwrap();
        assert_eq!(format!("{of_flags:?}"), format!("{of_url:?}"), "{url}");
    }

    #[test]
    fn flags_and_parameters_ask_the_same() {
        assert_same::<Selection>(&["-p1", "-p", "2", "-u", "www data&x=1", "-i", "eth+0"]);
        assert_same::<Selection>(&["-c", "curl", "--unit", "cron", "--container", "0123", "--pod", "a/b"]);
        assert_same::<SnapshotQuery>(&["--by", "parent", "-i", "lo"]);
        assert_same::<DropsQuery>(&["--all", "-i", "lo"]);
        assert_same::<StreamQuery>(&["--whole", "-u", "0"]);
        assert_same::<SocketsQuery>(&["-ln", "-i", "4tcp@10.0.0.1:20-22,80", "-i", "6", "-p", "7", "-c", "a%b"]);
        assert_same::<HistoryQuery>(&[]);
        assert_same::<HistoryQuery>(&["--at", "-2h", "--by", "unit", "-s", "xmit_kb", "--top", "3", "-n"]);
        assert_same::<HistoryQuery>(&["--from", "now", "--to", "22:10", "--when", "load > 4 and cpu > 1"]);
        assert_same::<HistoryQuery>(&["--last-boot"]);
        assert_same::<HistoryQuery>(&["-c", "curl", "--unit", "cron", "--unit", "at", "--by", "script"]);
    }

    #[test]
    fn each_flag_is_a_parameter() {
        fn assert_named<T: Args + Query>() {
            let flags = definition::<T>();
            let mut flags: Vec<String> =
                flags.get_arguments().filter_map(clap::Arg::get_long).map(|name| name.replace('-', "_")).collect();
            let mut query = T::default();
            let mut names: Vec<&str> = query.parameters().into_iter().map(|(name, _)| name).collect();
            flags.sort();
            names.sort_unstable();
            assert_eq!(names, flags);
        }
        assert_named::<Selection>();
        assert_named::<SnapshotQuery>();
        assert_named::<DropsQuery>();
        assert_named::<StreamQuery>();
        assert_named::<SocketsQuery>();
        assert_named::<HistoryQuery>();
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_allowed() {
        fn refused<Q: Query>(text: &str) -> String {
            read::<Q>(text).err().unwrap()
        }
        for (message, expected) in [
            (refused::<DropsQuery>("pid=x"), "invalid value 'x' for 'pid': invalid digit found in string"),
            (refused::<DropsQuery>("all=yes"), "invalid value 'yes' for 'all': give 1 or 0"),
            (refused::<DropsQuery>("all=1&all=1"), "the parameter 'all' cannot be used multiple times"),
            (
                refused::<DropsQuery>("whole=1"),
                "there is no parameter 'whole' here; there is pid, user, interface, command, unit, container, pod, all",
            ),
            (
                refused::<HistoryQuery>("by=pid"),
                "invalid value 'pid' for 'by': give one of process, program, unit, user, device, container, script, parent, pod",
            ),
            (refused::<HistoryQuery>("top=1&top=2"), "the parameter 'top' cannot be used multiple times"),
            (refused::<HistoryQuery>("to=now&at=now"), "the parameter 'at' cannot be used with 'to'"),
            (refused::<HistoryQuery>("from=now&last_boot=1"), "the parameter 'last_boot' cannot be used with 'from'"),
        ] {
            assert_eq!(message, expected);
        }
        assert!(read::<HistoryQuery>("from=now&last_boot=0").is_ok());
    }
}
