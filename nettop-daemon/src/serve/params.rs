//! Parameters of a request, read into the question's own type.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::Uri;
use nettop_model::Filter;

use super::answers::Refused;
use crate::{
    identity::users::Numbers,
    query::{
        parameters::{self, Parameters, Query},
        report::Selection,
    },
    sys::escape::escape,
};

/// Of an endpoint that takes no parameters.
#[derive(Default)]
pub(super) struct Nothing {}

impl Query for Nothing {
    fn parameters(&mut self) -> Parameters<'_> {
        Vec::new()
    }
}

/// What a request asks for.
///
/// # Errors
///
/// 400 if a parameter is unknown, has no such value, or cannot be given with another. Its line says which.
pub(super) fn parse<T: Query>(uri: &Uri) -> Result<T, Refused> {
    parameters::read(uri.query().unwrap_or_default()).map_err(|error| Refused::bad(escape(error.as_bytes())))
}

/// Users in a request, and a name's length: each is a question to the name service.
const MAX_USERS: usize = 64;
const MAX_NAME_BYTES: usize = 256;

/// What a selection lets through.
///
/// # Errors
///
/// As [`uids`].
pub(super) async fn filter(selection: &Selection, numbers: &Arc<Numbers>, time: Duration) -> Result<Filter, Refused> {
    Ok(selection.filter(uids(&selection.user, numbers, time).await?))
}

/// Numbers of users, by number or name. A name service that hangs takes `time`, and no thread that others need.
///
/// # Errors
///
/// 400 for an unknown user, too many users, or too long a name. 503 if the name service does not answer in time: the
/// client gives the number, or asks later.
pub(super) async fn uids(users: &[String], numbers: &Arc<Numbers>, time: Duration) -> Result<Vec<u32>, Refused> {
    if users.len() > MAX_USERS {
        return Err(Refused::bad(format!("{MAX_USERS} users at most")));
    }
    let deadline = Instant::now() + time;
    let mut uids = Vec::new();
    for user in users {
        if let Ok(uid) = user.parse() {
            uids.push(uid);
            continue;
        }
        if user.len() > MAX_NAME_BYTES {
            return Err(Refused::bad(format!("a user's name has {MAX_NAME_BYTES} bytes at most")));
        }
        let shown = escape(user.as_bytes());
        match numbers.wait_async(user, deadline.saturating_duration_since(Instant::now())).await {
            Some(Some(uid)) => uids.push(uid),
            Some(None) => return Err(Refused::bad(format!("no user is named '{shown}'; give a name or a number"))),
            None => {
                let line =
                    format!("the name service did not answer who '{shown}' is; give the number, or try again later");
                return Err(Refused::busy(line));
            }
        }
    }
    Ok(uids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::lookups::{Bounds, Lookups},
        query::{history::HistoryQuery, report::DropsQuery, sockets::SocketsQuery},
    };

    fn parsed<T: Query>(query: &str) -> Result<T, String> {
        parse(&format!("/x?{query}").parse().unwrap()).map_err(|refused| refused.message)
    }

    #[test]
    fn parameters_are_the_options_of_the_question() {
        let drops: DropsQuery = parsed("pid=1&pid=2&interface=eth%2B0&all=1").unwrap();
        let selection = drops.selection;
        assert_eq!((selection.pid, selection.interface, drops.all), (vec![1, 2], vec!["eth+0".to_owned()], true));
        let history: HistoryQuery = parsed("at=yesterday+22:10&by=unit&top=3&when=load%20%3E%204").unwrap();
        assert_eq!((history.at.as_deref(), history.top), (Some("yesterday 22:10"), 3));
        assert_eq!(history.when.unwrap().to_string(), "load > 4");
        assert!(parsed::<HistoryQuery>("last_boot=1").unwrap().last_boot);
        let sockets: SocketsQuery = parsed("listening&numeric=0&internet=tcp@127.0.0.1:22").unwrap();
        assert_eq!((sockets.listening, sockets.numeric, sockets.internet.len()), (true, false, 1));
    }

    #[test]
    fn what_is_not_understood_is_refused_in_one_harmless_line() {
        fn message<T: Query>(query: &str) -> String {
            parsed::<T>(query).err().expect(query)
        }
        let messages = [
            message::<DropsQuery>("pid=x"),
            message::<DropsQuery>("pid=%1b[2J"),
            message::<DropsQuery>("%0a=1"),
            message::<DropsQuery>("all=perhaps"),
            message::<DropsQuery>("help=1"),
            message::<Nothing>("pid=1"),
            message::<Selection>("all=1"),
            message::<HistoryQuery>("history=/etc/shadow"),
            message::<HistoryQuery>("last-boot=1"),
            message::<HistoryQuery>("top=--format=csv"),
            message::<HistoryQuery>("at=now&from=now"),
            message::<HistoryQuery>("when=1%3B+DROP+TABLE"),
            message::<SocketsQuery>("internet=tcp@example.com"),
            message::<SocketsQuery>("resolve=1"),
            message::<SocketsQuery>("interval=5"),
        ];
        for message in messages {
            assert!(!message.is_empty() && !message.chars().any(char::is_control), "{message:?}");
        }
    }

    /// Knows root, and hangs on some names.
    fn lookup(name: &String) -> Option<u32> {
        while name.starts_with("hangs") {
            std::thread::park();
        }
        (name == "root").then_some(0)
    }

    #[tokio::test]
    async fn users_have_numbers_and_a_name_service_that_hangs_is_reported() {
        let numbers = Lookups::new(lookup, Bounds { threads: 2, questions: 4, answers: 16 });
        let ask = async |query: &str, time: u64| {
            let selection: Selection = parsed(query).unwrap();
            let filter = filter(&selection, &numbers, Duration::from_secs(time)).await;
            filter.map(|filter| filter.uids).map_err(|refused| (refused.status.as_u16(), refused.message))
        };
        const FOR_EVER: u64 = 300;
        assert_eq!(ask("user=root&user=7", FOR_EVER).await, Ok(vec![0, 7]));
        let refused = ask("user=no-such%1b-user", FOR_EVER).await.unwrap_err();
        assert_eq!(refused, (400, "no user is named 'no-such\\x1b-user'; give a name or a number".into()));
        assert_eq!(ask(&format!("user={}", "x".repeat(300)), FOR_EVER).await.unwrap_err().0, 400);
        assert_eq!(ask(&"user=1&".repeat(65), FOR_EVER).await.unwrap_err().0, 400);
        for number in 0..20 {
            let refused = ask(&format!("user=hangs{number}"), 0).await.unwrap_err();
            assert!(refused.0 == 503 && refused.1.contains("give the number"), "{refused:?}");
        }
        assert_eq!(ask("user=root&user=8", 0).await, Ok(vec![0, 8]), "what is known needs no service");
    }
}
