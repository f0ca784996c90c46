//! Sends events to a stream of Redis: one entry each, the entries of a wave in one pipeline.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, Pipeline, RedisError, RedisResult,
    TlsCertificates, Value,
};
use store::events::delivery::DueEvent;
use tokio::time::{Instant, timeout_at};

use crate::config::{self, Trusted};

pub struct Redis {
    to: config::Redis,
    timeout: Duration,
    client: Client,
    connection: Option<MultiplexedConnection>,
}

impl Redis {
    pub fn new(to: &config::Redis, timeout: Duration, tls: &Trusted) -> Result<Redis, RedisError> {
        let mut address = to.address.reveal().into_connection_info()?;
        if let Some(password) = &to.password {
            let settings = address.redis_settings().clone().set_password(password.secret.reveal());
            address = address.set_redis_settings(settings);
        }
        let client = if to.address.reveal().starts_with("rediss:") {
            Client::build_with_tls(address, TlsCertificates { client_tls: None, root_cert: tls.pem.clone() })
        } else {
            Client::open(address)
        };
        Ok(Redis { to: to.clone(), timeout, client: client?, connection: None })
    }

    /// Reuses the connection if it works. It is tested first, because a server closes idle connections
    /// or may have restarted.
    pub async fn open(&mut self, until: Instant) -> Result<(), String> {
        if let Some(connection) = &mut self.connection
            && let Ok(Ok(())) = timeout_at(until, redis::cmd("PING").exec_async(connection)).await
        {
            return Ok(());
        }
        self.connection = None;
        // The client's own timeouts would race with ours, and their messages do not contain the duration.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connect = self.client.get_multiplexed_async_connection_with_config(&config);
        let address = &self.to.address;
        let connection = match timeout_at(until, connect).await {
            Err(_) => return Err(format!("{address} gave no answer within {:?}", self.timeout)),
            Ok(Err(error)) => {
                let remedy = "check the address, user and password, and that the server runs";
                let said = address.mask(&error.to_string());
                return Err(format!("no connection to {address}: {said}; {remedy}"));
            }
            Ok(Ok(connection)) => connection,
        };
        self.connection = Some(connection);
        Ok(())
    }

    pub fn close(&mut self) {
        self.connection = None;
    }

    /// Sends all events in one pipeline. Redis answers each of them.
    pub async fn send(&self, wave: &[&DueEvent], until: Instant) -> Vec<Result<(), String>> {
        let Some(mut connection) = self.connection.clone() else {
            return wave.iter().map(|_| Err("the connection is lost".to_owned())).collect();
        };
        let mut pipeline = Pipeline::with_capacity(wave.len());
        pipeline.ignore_errors();
        for due in wave {
            pipeline.add_command(self.add(due));
        }
        let answers = pipeline.query_async::<Vec<RedisResult<Value>>>(&mut connection);
        match timeout_at(until, answers).await {
            Ok(Ok(answers)) => {
                let lost =
                    std::iter::repeat_with(|| Err(RedisError::from((ErrorKind::Io, "no answer came"))));
                let answers = wave.iter().zip(answers.into_iter().chain(lost));
                answers.map(|(due, answer)| answer.map(|_| ()).map_err(|e| self.not_taken(&e, due))).collect()
            }
            Ok(Err(error)) => wave.iter().map(|due| Err(self.not_taken(&error, due))).collect(),
            Err(_) => {
                let late = |due: &&DueEvent| {
                    Err(format!("the stream {:?} gave no answer within {:?}", self.stream(due), self.timeout))
                };
                wave.iter().map(late).collect()
            }
        }
    }

    fn stream<'a>(&'a self, due: &'a DueEvent) -> &'a str {
        self.to.stream.as_deref().unwrap_or(&due.event.topic)
    }

    fn add(&self, due: &DueEvent) -> Cmd {
        let event = &due.event;
        let mut add = redis::cmd("XADD");
        add.arg(self.stream(due));
        if let Some(length) = self.to.length_max {
            add.arg("MAXLEN").arg("~").arg(length);
        }
        add.arg("*").arg("id").arg(event.id.to_string());
        add.arg("topic").arg(&event.topic).arg("key").arg(&event.key).arg("job").arg(event.job.as_str());
        add.arg("created_at").arg(event.created_at.to_string()).arg("payload").arg(&event.payload);
        add
    }

    fn not_taken(&self, error: &RedisError, due: &DueEvent) -> String {
        format!("not accepted by the stream {:?}: {error}", self.stream(due))
    }
}
