-- 5.sql: from version 4 to 5: one index less. SQLite used measurement_overall for queries over the whole table, which then took
-- four times as long, and the queries it was made for are as fast with measurement_identity.
DROP INDEX measurement_overall;
