//! What a guest does, and how it has to end.

/// One of the zoo.
pub struct Guest {
    /// Its row in the table of docs/reliability.md.
    pub row: &'static str,
    /// The component's file, and the name of plugin and job.
    pub name: &'static str,
    pub file: File,
    pub attack: Attack,
    /// More of its job's configuration, in TOML.
    pub settings: String,
    pub limits: &'static str,
    /// What the host may need more while it is there.
    pub peak_mib_max: i64,
    /// And what it may keep of that.
    pub kept_mib_max: i64,
}

/// What is put into the plugins folder.
#[derive(Debug, Clone, Copy)]
pub enum File {
    /// A component that was built under this name.
    Built(&'static str),
    /// A link to a component outside of the folder.
    Link,
    /// A pipe that nobody writes to.
    Pipe,
    Folder,
    /// A file that says that it has ten gigabytes.
    Sparse,
}

pub enum Attack {
    /// Its file is put into the plugins folder of a running host, which has to refuse it and say this.
    Load { says: &'static str },
    /// The same, but it may be taken instead: it is sound, and only costs time.
    Weigh,
    /// Its job has so many items of this payload, and each has to end so.
    Items { count: u32, payload: String, end: End },
    /// Its job is started, and the run has to end with this code.
    Run { code: &'static str },
}

#[derive(Debug, Clone, Copy)]
pub enum End {
    Resolved,
    /// Not now: it waits, and nothing else waits for it.
    Waits,
    /// With this code, and these words in its message.
    Failed(&'static str, &'static str),
}

/// What computes longer than this is stopped.
const LIMITS: &str = "cpu_time = \"300ms\", wall_time = \"5s\"";
/// The memory that an attempt may have, and as much again for what the host does with what it hands over.
const PEAK_MIB_MAX: i64 = 128;
/// The allocator keeps some of what was freed, for the next who asks.
const KEPT_MIB_MAX: i64 = 32;
/// The same for what the compiler takes: as much again is not taken for the next component.
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

    /// What it does is left to wait.
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

    /// Its job: what fails once is left to a person, so that it ends.
    pub fn job(&self) -> String {
        let Guest { name, settings, limits, .. } = self;
        format!(
            "[jobs.{name}]\nplugin = \"{name}\"\nretry = {{ max_attempts = 1 }}\nlimits = {{ {limits} }}\n{settings}\n"
        )
    }
}
