//! JDBC source connector over SQLite, MySQL, MariaDB and PostgreSQL.
