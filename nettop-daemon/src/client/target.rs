//! Questions as paths with parameters, in the same words as on the command line.

use nettop_model::By;

use crate::{
    defaults,
    query::{
        history::HistoryQuery,
        parameters::write,
        report::{Reports, SnapshotQuery, StreamQuery},
        sockets::SocketsQuery,
    },
};

/// The daemon's next interval, or one after the other. None where only measuring can answer: with an interval or a table
/// of one's own, one version of IP, or a record of one's own.
pub fn reports(reports: &Reports) -> Option<String> {
    let is_recorded = reports.record.as_ref().is_some_and(|record| record.history.is_some());
    let is_the_daemons = reports.timing.interval.is_none()
        && reports.limits == defaults::LIMITS
        && reports.hidden_families == [false; 2]
        && !is_recorded;
    let snapshot = SnapshotQuery {
        selection: reports.selection.clone(),
        by: Some(reports.by).filter(|by| *by != By::Process),
        arguments: reports.output.shows_arguments(),
        resources: reports.output.shows_resources(),
    };
    is_the_daemons.then(|| match reports.once {
        true => write("/v1/snapshot", snapshot),
        // Whoever shows it needs all of each line.
        false => write("/v1/stream", StreamQuery { snapshot, whole: true }),
    })
}

/// Sockets as they are now.
pub fn sockets(query: &SocketsQuery) -> String {
    write("/v1/sockets", query.clone())
}

/// What was recorded. Times are the daemon's: give them in UTC.
pub fn history(query: &HistoryQuery) -> String {
    write("/v1/history", query.clone())
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;
    use crate::query::report::{DropsArgs, ReportArgs};

    fn parsed<T: Args>(words: &[&str]) -> T {
        let found = T::augment_args(clap::Command::new("x").no_binary_name(true)).get_matches_from(words);
        T::from_arg_matches(&found).unwrap()
    }

    fn of_report(words: &[&str]) -> Option<String> {
        reports(&Reports::from(&parsed::<ReportArgs>(words)))
    }

    fn of_drops(words: &[&str]) -> Option<String> {
        reports(&Reports::from(&parsed::<DropsArgs>(words)))
    }

    #[test]
    fn what_the_daemon_can_answer_is_asked_for_in_the_same_words() {
        assert_eq!(of_report(&["--once"]).unwrap(), "/v1/snapshot");
        assert_eq!(
            of_report(&["--once", "-p", "1", "-p", "2", "-u", "www data", "-i", "lo"]).unwrap(),
            "/v1/snapshot?pid=1&pid=2&user=www+data&interface=lo"
        );
        assert_eq!(
            of_report(&["--once", "--by", "parent", "-c", "curl", "--unit", "a b"]).unwrap(),
            "/v1/snapshot?command=curl&unit=a+b&by=parent"
        );
        assert_eq!(of_report(&[]).unwrap(), "/v1/stream?whole=1");
        assert_eq!(of_report(&["-e"]).unwrap(), "/v1/stream?whole=1&arguments=1");
        assert_eq!(of_report(&["--resources"]).unwrap(), "/v1/stream?whole=1&resources=1");
        assert_eq!(of_report(&["--once", "-s", "cpu"]).unwrap(), "/v1/snapshot?resources=1");
        assert_eq!(of_drops(&["--once"]).unwrap(), "/v1/snapshot");
        assert_eq!(of_drops(&["--once", "-e"]).unwrap(), "/v1/snapshot?arguments=1");
        assert_eq!(of_drops(&["-i", "lo"]).unwrap(), "/v1/stream?whole=1&interface=lo");
        assert_eq!(
            sockets(&parsed(&["-ln", "-i", "tcp@10.0.0.1:80"])),
            "/v1/sockets?internet=tcp%40%5B10.0.0.1%5D%3A80-80&listening=1&numeric=1"
        );
        let words = ["--at", "2026-11-21T22:10:00Z", "--by", "unit", "-s", "peak", "--when", "load > 4"];
        assert_eq!(
            history(&parsed(&words)),
            "/v1/history?at=2026-11-21T22%3A10%3A00Z&when=load+%3E+4&top=20&by=unit&sort=peak"
        );
        assert_eq!(history(&parsed(&["--last-boot"])), "/v1/history?top=20&by=process&sort=bytes&last_boot=1");
    }

    #[test]
    fn what_only_measuring_answers_is_not_asked_for() {
        for words in
            [&["1"][..], &["--history", "/tmp/x.db"], &["--once", "0.5"], &["--once", "-4"], &["--rows", "128"]]
        {
            assert_eq!(of_report(words), None, "{words:?}");
        }
        for words in [&["1"][..], &["--once", "1"], &["--drop-kinds", "64"]] {
            assert_eq!(of_drops(words), None, "{words:?}");
        }
    }
}
