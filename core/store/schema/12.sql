-- 12.sql: from version 11 to 12: runs that took a few times alone, such as the processes that a check adds.

ALTER TABLE run ADD COLUMN only_times TEXT; -- the times that it took alone, as --only-times of replay names them; NULL: all of its command

UPDATE run SET only_times = (
    SELECT CAST(CASE o.value WHEN '--only-times' THEN (SELECT v.value FROM json_each(run.argv) v WHERE v.key = o.key + 1)
                             ELSE substr(o.value, length('--only-times=') + 1) END AS TEXT)
    FROM json_each(run.argv) o WHERE o.value = '--only-times' OR o.value LIKE '--only-times=%' ORDER BY o.key DESC LIMIT 1)
WHERE argv LIKE '%"--only-times%' AND json_valid(argv);
