//! Requests to a host over one connection that stays open.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);
const BODY_BYTES_MAX: usize = 256 << 20;

pub struct Client {
    address: SocketAddr,
    connection: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let connection = TcpStream::connect(address).with_context(|| format!("no host at {address}"))?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        Ok(Self { address, connection: BufReader::new(connection) })
    }

    pub fn get(&mut self, path: &str) -> Result<String> {
        self.send("GET", path, "", "")
    }

    pub fn get_json(&mut self, path: &str) -> Result<Value> {
        let body = self.get(path)?;
        serde_json::from_str(&body).with_context(|| format!("GET {path} did not answer with JSON"))
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        self.post_as(path, "application/json", &body.to_string())
    }

    /// Posts a body of this content type.
    pub fn post_as(&mut self, path: &str, kind: &str, body: &str) -> Result<Value> {
        let answer = self.send("POST", path, &format!("content-type: {kind}\r\n"), body)?;
        serde_json::from_str(&answer).with_context(|| format!("POST {path} did not answer with JSON"))
    }

    /// Returns the body of a successful answer. `headers` are whole lines.
    fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Result<String> {
        let what = || format!("{method} {path}");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.connection.get_mut().write_all(request.as_bytes()).with_context(what)?;
        let (status, body) = read_answer(&mut self.connection).with_context(what)?;
        ensure!((200..300).contains(&status), "{} was answered with {status}: {body}", what());
        Ok(body)
    }
}

/// Reads one answer and leaves the connection at the start of the next.
fn read_answer(from: &mut impl BufRead) -> Result<(u16, String)> {
    let status = line(from)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.context("the answer has no status")?;
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let header = line(from)?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().context("the answer's content-length is not a number")?;
        }
        is_chunked |= header.starts_with("transfer-encoding:") && header.ends_with("chunked");
    }
    let body = if is_chunked { read_chunks(from)? } else { read_bytes(from, length)? };
    Ok((status, String::from_utf8(body).context("the answer is not UTF-8")?))
}

fn read_chunks(from: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(from)?;
        let size = usize::from_str_radix(size.trim(), 16).context("the size of a chunk is not a number")?;
        body.extend(read_bytes(from, size)?);
        ensure!(body.len() <= BODY_BYTES_MAX, "the answer is longer than {BODY_BYTES_MAX} bytes");
        line(from)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn read_bytes(from: &mut impl BufRead, length: usize) -> Result<Vec<u8>> {
    ensure!(length <= BODY_BYTES_MAX, "the answer is longer than {BODY_BYTES_MAX} bytes");
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).context("the answer ended too early")?;
    Ok(bytes)
}

/// A line without its end.
fn line(from: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line).context("no answer")? == 0 {
        bail!("the host closed the connection");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_one_connection_are_read_one_after_another() {
        let mut bytes: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}\
            HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n\
            HTTP/1.1 404 Not Found\r\nx: y\r\n\r\n";
        assert_eq!(read_answer(&mut bytes).unwrap(), (200, "{}".to_owned()));
        assert_eq!(read_answer(&mut bytes).unwrap(), (201, "abc0123456789".to_owned()));
        assert_eq!(read_answer(&mut bytes).unwrap(), (404, String::new()));
        assert!(read_answer(&mut bytes).is_err());
    }

    #[test]
    fn cut_off_answers_are_errors() {
        for text in
            ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\n"]
        {
            assert!(read_answer(&mut text.as_bytes()).is_err(), "{text}");
        }
    }
}
