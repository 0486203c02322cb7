// Package sqlite3 registers no driver. gorm.io/driver/sqlite imports it for the one named "sqlite3",
// which is SQLite in C; Latchkey gives it connections of modernc.org/sqlite. To open that driver
// nevertheless fails with database/sql's "unknown driver".
package sqlite3
