//! Change capture from the MySQL and MariaDB binlog.
