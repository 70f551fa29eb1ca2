-- schema_5.sql: from version 4 to 5: an index less. measurement_overall led whole-table queries through its order instead of
-- the table's, which took four times as long, and the queries it was for do as well with measurement_identity.
DROP INDEX measurement_overall;
