use domain::plugin::Statement;
use domain::scope::Value;

use super::convert_errors;
use crate::guest::bindings::sql::{self, Error, Host, Rows};
use crate::guest::convert::{rows_out, value_in};
use crate::guest::state::{AttemptContext, GuestState};

convert_errors!(Denied => Denied, Refused => Denied, Limit => Limit, Database => Database, Unavailable => Unavailable, Store => Unavailable);

/// `tidemill:job/sql`: statements declared in `describe`, on the datasources granted to the job.
impl Host for GuestState {
    async fn query(&mut self, statement: String, params: Vec<sql::Value>) -> Result<Rows, Error> {
        let (granted, statement, params) = self.checked(&statement, params)?;
        Ok(rows_out(granted.scope.sql_query(statement, params).await?))
    }

    async fn execute(&mut self, statement: String, params: Vec<sql::Value>) -> Result<u64, Error> {
        let (granted, statement, params) = self.checked(&statement, params)?;
        Ok(granted.scope.sql_execute(statement, params).await?)
    }
}

impl GuestState {
    fn checked(
        &self,
        name: &str,
        params: Vec<sql::Value>,
    ) -> Result<(&AttemptContext, &Statement, Vec<Value>), Error> {
        let granted = self.granted()?;
        let Some(statement) = granted.describe.statements.get(name) else {
            return Err(Error::UnknownStatement(name.to_owned()));
        };
        if let Some(why) = granted.job.grants.refuses_sql(&statement.datasource, statement.writes) {
            return Err(Error::Denied(why));
        }
        let params: Vec<Value> = params.into_iter().map(value_in).collect();
        statement.accepts(name, &params).map_err(Error::Database)?;
        let bytes = params.iter().fold(0, |sum: usize, value| sum.saturating_add(value.bytes()));
        if bytes > self.limits.sql_bytes {
            return Err(Error::Limit(format!(
                "the parameters have {bytes} bytes, {} are allowed",
                self.limits.sql_bytes
            )));
        }
        Ok((granted, statement, params))
    }
}
