//! What a role needs that uses the schema and does not make it.

use crate::config::PostgresConfig;
use crate::error::ConnectError;
use crate::names::Schema;

const GRANTS: &str = "\
    grant usage on schema {schema} to {role};\n\
    grant select, insert, update, delete on all tables in schema {schema} to {role};\n\
    revoke insert, update, delete on {schema}.history from {role};\n\
    grant usage on all sequences in schema {schema} to {role};\n\
    grant execute on all routines in schema {schema} to {role};\n\
    alter default privileges in schema {schema} grant select, insert, update, delete on tables to {role};\n\
    alter default privileges in schema {schema} grant usage on sequences to {role};\n\
    alter default privileges in schema {schema} grant execute on routines to {role};\n";

/// The statements that give a role all it needs to run with `migrate(false)`, and nothing more: it
/// uses what is in the schema, and can make, change and drop none of it. It needs no attribute, and no
/// membership in another role. For whoever owns the schema; what later migrations of the same
/// owner make is granted with it.
///
/// # Errors
/// [`ConnectError::BadSchema`].
pub fn role_sql(config: &PostgresConfig, role: &str) -> Result<String, ConnectError> {
    let schema = Schema::new(&config.schema)?;
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    // The role's name last: it may hold anything.
    Ok(schema.sql(GRANTS).replace("{role}", &quoted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_quotes_stays_a_name() -> Result<(), ConnectError> {
        let config = PostgresConfig::new("").schema("billing");
        let text = role_sql(&config, "a\"; drop table {schema}.x; --")?;
        assert!(text.starts_with(
            "grant usage on schema \"billing\" to \"a\"\"; drop table {schema}.x; --\";"
        ));
        Ok(())
    }
}
