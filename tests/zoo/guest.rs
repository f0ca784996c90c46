//! The attack of each guest, and its required result.

/// A malicious plugin.
pub struct Guest {
    /// Its row in the table of docs/reliability.md.
    pub row: &'static str,
    /// The name of the component's file, of the plugin and of its job.
    pub name: &'static str,
    pub file: File,
    pub attack: Attack,
    /// Additional configuration of its job, in TOML.
    pub settings: String,
    pub limits: &'static str,
    /// Additional memory that the host may use while the guest runs.
    pub peak_mib_max: i64,
    /// Memory that the host may keep afterwards.
    pub kept_mib_max: i64,
}

/// The file in the plugins folder.
#[derive(Debug, Clone, Copy)]
pub enum File {
    /// A component that was built under this name.
    Built(&'static str),
    /// A link to a component outside the folder.
    Link,
    /// A pipe without a writer.
    Pipe,
    Folder,
    /// A sparse file with a size of ten gigabytes.
    Sparse,
}

pub enum Attack {
    /// Its file is installed while the host runs; the host must reject it with this message.
    Load { says: &'static str },
    /// The same, but the host may also accept it: it is valid, and only takes time.
    Weigh,
    /// Its job has this many items with this payload, and each must end in this way.
    Items { count: u32, payload: String, end: End },
    /// Its job is started, and the run must end with this code.
    Run { code: &'static str },
}

#[derive(Debug, Clone, Copy)]
pub enum End {
    Resolved,
    /// It waits, and no other item waits for it.
    Waits,
    /// Failed with this code, and with this text in its message.
    Failed(&'static str, &'static str),
}

/// A longer computation is stopped.
const LIMITS: &str = "cpu_time = \"300ms\", wall_time = \"5s\"";
/// The memory limit of an attempt, and the same amount for the host's copies of the data that it passes on.
const PEAK_MIB_MAX: i64 = 128;
/// The allocator keeps some freed memory for later requests.
const KEPT_MIB_MAX: i64 = 32;
/// The limit for compilation, whose freed memory is reused for the next component.
const COMPILER_MIB_MAX: i64 = 384;

impl Guest {
    fn new(row: &'static str, name: &'static str, attack: Attack) -> Guest {
        Guest {
            row,
            name,
            file: File::Built(name),
            attack,
            settings: String::new(),
            limits: LIMITS,
            peak_mib_max: PEAK_MIB_MAX,
            kept_mib_max: KEPT_MIB_MAX,
        }
    }

    pub fn load(row: &'static str, name: &'static str, says: &'static str) -> Guest {
        Guest::new(row, name, Attack::Load { says })
    }

    pub fn fails(row: &'static str, name: &'static str, code: &'static str, says: &'static str) -> Guest {
        Guest::new(
            row,
            name,
            Attack::Items { count: 1, payload: String::new(), end: End::Failed(code, says) },
        )
    }

    pub fn resolves(row: &'static str, name: &'static str) -> Guest {
        Guest::new(row, name, Attack::Items { count: 1, payload: String::new(), end: End::Resolved })
    }

    pub fn run(row: &'static str, name: &'static str, code: &'static str) -> Guest {
        Guest::new(row, name, Attack::Run { code })
    }

    pub fn built_as(mut self, name: &'static str) -> Guest {
        self.file = File::Built(name);
        self
    }

    pub fn weigh(row: &'static str, name: &'static str) -> Guest {
        let guest = Guest::new(row, name, Attack::Weigh);
        Guest { peak_mib_max: COMPILER_MIB_MAX, kept_mib_max: COMPILER_MIB_MAX, ..guest }
    }

    pub fn file(mut self, file: File) -> Guest {
        self.file = file;
        self
    }

    pub fn peak_mib(mut self, max: i64) -> Guest {
        self.peak_mib_max = max;
        self
    }

    pub fn kept_mib(mut self, max: i64) -> Guest {
        self.kept_mib_max = max;
        self
    }

    /// Its items must end waiting.
    pub fn waits(mut self) -> Guest {
        if let Attack::Items { end, .. } = &mut self.attack {
            *end = End::Waits;
        }
        self
    }

    pub fn times(mut self, wanted: u32) -> Guest {
        if let Attack::Items { count, .. } = &mut self.attack {
            *count = wanted;
        }
        self
    }

    pub fn payload(mut self, text: String) -> Guest {
        if let Attack::Items { payload, .. } = &mut self.attack {
            *payload = text;
        }
        self
    }

    pub fn limits(mut self, limits: &'static str) -> Guest {
        self.limits = limits;
        self
    }

    pub fn settings(mut self, settings: impl Into<String>) -> Guest {
        self.settings = settings.into();
        self
    }

    /// Its items may share instances.
    pub fn sharing(mut self) -> Guest {
        self.settings.push_str("\nisolation = \"batch\"\nconcurrency = 8");
        self
    }

    /// The configuration of its job: an item that fails once is left to a person, so that it ends.
    pub fn job(&self) -> String {
        let Guest { name, settings, limits, .. } = self;
        format!(
            "[jobs.{name}]\nplugin = \"{name}\"\nretry = {{ max_attempts = 1 }}\nlimits = {{ {limits} }}\n{settings}\n"
        )
    }
}
