//! What a guest does, and how it has to end.

/// One of the zoo.
pub struct Guest {
    /// Its row in the table of docs/reliability.md.
    pub row: &'static str,
    /// The component's file, and the name of plugin and job.
    pub name: &'static str,
    /// The component, if it is not of this name.
    pub built_as: &'static str,
    pub attack: Attack,
    /// More of its job's configuration, in TOML.
    pub settings: String,
    pub limits: &'static str,
}

pub enum Attack {
    /// Its file is put into the plugins folder of a running host, which has to refuse it and say this.
    Load { says: &'static str },
    /// Its job has so many items of this payload, and each has to end so.
    Items { count: u32, payload: String, end: End },
    /// Its job is started, and the run has to end with this code.
    Run { code: &'static str },
}

#[derive(Debug, Clone, Copy)]
pub enum End {
    Resolved,
    /// With this code, and these words in its message.
    Failed(&'static str, &'static str),
}

/// What computes longer than this is stopped.
const LIMITS: &str = "cpu_time = \"300ms\", wall_time = \"5s\"";

impl Guest {
    fn new(row: &'static str, name: &'static str, attack: Attack) -> Guest {
        Guest { row, name, built_as: name, attack, settings: String::new(), limits: LIMITS }
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
        self.built_as = name;
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
