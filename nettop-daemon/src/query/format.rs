//! How documents are written.

use clap::ValueEnum;

/// How reports are written.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Columns for people
    #[default]
    Table,
    /// One indented document, of each report
    Json,
    /// The same in one line
    Ndjson,
    /// One line per row; of reports, also per device and loss counter
    Csv,
}

/// How `nettopd sockets` prints.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketsFormat {
    /// Columns for people
    #[default]
    Table,
    /// One indented document, `nettop.sockets/1`
    Json,
    /// The same in one line
    Ndjson,
    /// One line per socket and process that holds it
    Csv,
}

/// How `nettopd drops` prints.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DropsFormat {
    /// Lines for people
    #[default]
    Text,
    /// One indented document per report, `nettop.drops/1`
    Json,
    /// One document per line and report
    Ndjson,
    /// One line per kind of drop
    Csv,
}

/// How `nettopd check` and `nettopd status` print.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DocumentFormat {
    /// Lines for people
    #[default]
    Text,
    /// One indented document
    Json,
}

/// How streams are written.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamFormat {
    /// Lines for people
    #[default]
    Text,
    /// One document per line
    #[value(alias = "json")]
    Ndjson,
    /// One line per event
    Csv,
}

/// What the table has on request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns {
    /// Drops, and segments sent again.
    pub drops: bool,
    /// With each command who started it, what it runs, and where.
    pub ancestry: bool,
    /// Each process below those that started it.
    pub tree: bool,
    /// What processes use besides the network; in documents as well.
    pub resources: bool,
}

/// What is written of each snapshot.
#[derive(Clone, Copy, Debug)]
pub enum Output {
    Report {
        format: Format,
        columns: Columns,
        /// Each line of ndjson has all.
        whole: bool,
    },
    Drops(Drops),
}

/// How `nettopd drops` writes.
#[derive(Clone, Copy, Debug)]
pub struct Drops {
    pub format: DropsFormat,
    /// Also frees that lost nothing.
    pub all: bool,
    /// With each process who started it, what it runs, and where.
    pub ancestry: bool,
}

impl Output {
    /// Whether what is written has arguments of processes: not unless it was asked for.
    pub const fn shows_arguments(self) -> bool {
        matches!(
            self,
            Self::Report { columns: Columns { ancestry: true, .. }, .. } | Self::Drops(Drops { ancestry: true, .. })
        )
    }

    /// Whether what processes use is asked for.
    pub const fn shows_resources(self) -> bool {
        matches!(self, Self::Report { columns: Columns { resources: true, .. }, .. })
    }

    /// Whether rows that were quiet are left out.
    pub const fn shows_only_busy(self) -> bool {
        matches!(
            self,
            Self::Report { format: Format::Table, .. } | Self::Drops(Drops { format: DropsFormat::Text, .. })
        )
    }

    /// Whether it is the table of rows.
    pub const fn is_table(self) -> bool {
        matches!(self, Self::Report { format: Format::Table, .. })
    }

    /// Whether lines leave out what the reader knows from those before.
    pub const fn leaves_out_known(self) -> bool {
        matches!(self, Self::Report { format: Format::Ndjson, whole: false, .. })
    }

    /// Whether anything of drops is written.
    pub const fn shows_drops(self) -> bool {
        !matches!(self, Self::Report { format: Format::Table, columns: Columns { drops: false, .. }, .. })
    }
}
