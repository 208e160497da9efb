//! Retention policies of InfluxDB 1 as databases: each but one is a database of its own, `database/policy`.

use super::{DatabaseName, NameError};

/// The retention policy that every database has: the database itself.
pub const OWN_POLICY: &str = "autogen";

impl DatabaseName {
    /// The database that a retention policy of this one is.
    ///
    /// # Errors
    /// If the policy's name is none that a database may have.
    pub fn of_policy(&self, policy: &str) -> Result<Self, NameError> {
        match policy {
            OWN_POLICY => Ok(self.clone()),
            other => Self::new(&format!("{self}/{other}").to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_database_of_its_own_but_for_one() {
        let home = DatabaseName::new("home").unwrap();
        assert_eq!(home.of_policy("autogen").unwrap().as_str(), "home");
        assert_eq!(home.of_policy("Weekly").unwrap().as_str(), "home/weekly");
        assert!(home.of_policy("a week").is_err());
        assert!(home.of_policy("").is_err());
    }
}
