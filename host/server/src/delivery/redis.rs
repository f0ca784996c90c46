//! Sends events to a stream of Redis: one entry each.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, TlsCertificates};
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

    pub async fn send(&self, due: &DueEvent, until: Instant) -> Result<(), String> {
        let Some(mut connection) = self.connection.clone() else {
            return Err("the connection is lost".to_owned());
        };
        let event = &due.event;
        let stream = self.to.stream.as_deref().unwrap_or(&event.topic);
        let mut add = redis::cmd("XADD");
        add.arg(stream);
        if let Some(length) = self.to.length_max {
            add.arg("MAXLEN").arg("~").arg(length);
        }
        add.arg("*").arg("id").arg(event.id.to_string());
        add.arg("topic").arg(&event.topic).arg("key").arg(&event.key).arg("job").arg(event.job.as_str());
        add.arg("created_at").arg(event.created_at.to_string()).arg("payload").arg(&event.payload);
        match timeout_at(until, add.exec_async(&mut connection)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("not accepted by the stream {stream:?}: {error}")),
            Err(_) => Err(format!("the stream {stream:?} gave no answer within {:?}", self.timeout)),
        }
    }
}
