"""Every block of docs/fleet.md, run as it stands: GNU parallel, a real Slurm on this machine, submitit on that Slurm; manifests
against their schemas. What the machine lacks is skipped with the package that brings it."""
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import BUNDLED, PROGRAM, ROOT, query

TEXT = (ROOT / "docs/fleet.md").read_text()
BLOCKS = {name: (kind, text) for kind, name, text in re.findall(r"<!-- (run|file): (\S+) -->\n```\w*\n(.*?)```", TEXT, re.S)}
SLURM = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
RUNS = "SELECT status, n_shards, (SELECT count(*) FROM shard) FROM run"


def block(name):
    return BLOCKS[name][1]


def where(program):
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def need(**programs):
    missing = [package for program, package in programs.items() if where(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; apt-get install --no-install-recommends brings it (6 MB)")


@pytest.fixture
def place(tmp_path):
    """A folder with the trace under the document's name, and `adamas` in PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/adamas").symlink_to(PROGRAM)
    (tmp_path / "mine.safetensors").symlink_to(BUNDLED)
    return tmp_path


def run(place, text, env=None, interpreter="bash", timeout=180):
    environment = os.environ | {"PATH": f"{place}/bin:{os.environ['PATH']}"} | (env or {})
    words = [interpreter, "-euc" if interpreter == "bash" else "-c", text]
    return subprocess.run(words, cwd=place, env=environment, text=True, capture_output=True, timeout=timeout)


def test_every_block_of_the_document_is_run_or_checked():
    fences = re.findall(r"^```(\w+)$", TEXT, re.M)
    assert len(fences) == len(BLOCKS) == 7
    assert set(BLOCKS) == {"parallel", "sweep.sbatch", "slurm", "slurm-again", "submitit", "job.yaml", "batch.json"}


def test_gnu_parallel(place):
    need(parallel="parallel")
    result = run(place, block("parallel"))
    assert result.returncode == 0 and "3 of 3 are in run 1" in result.stdout, result
    assert query(place / "sweep.db", RUNS) == [("complete", 3, 3)]


# ---------------------------------------------------------------- Slurm

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
SlurmdPort={port_d}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=200000,bf_interval=1,batch_sched_delay=0
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_ports():
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        return a.getsockname()[1], b.getsockname()[1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a Slurm of this machine alone, by its own daemons in the foreground: no systemd."""
    need(**SLURM)
    if os.geteuid() != 0:
        pytest.skip("slurmd runs jobs as root alone")
    folder = Path("/tmp") / f"adamas-slurm-{os.getpid()}"  # munge wants a short path that others may enter
    folder.mkdir(mode=0o711)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o600)
    port, port_d = free_ports()
    (folder / "slurm.conf").write_text(CONFIGURATION.format(
        host=socket.gethostname().split(".")[0], folder=folder, user="root", port=port, port_d=port_d,
        cpus=len(os.sched_getaffinity(0))))
    env = {"SLURM_CONF": f"{folder}/slurm.conf"}
    daemons = []
    try:
        for words in ([where("munged"), "--foreground", "--force", f"--socket={folder}/munge.sock", f"--key-file={folder}/key",
                       f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/seed"],
                      [where("slurmctld"), "-D", "-c"], [where("slurmd"), "-D", "-c"]):
            with open(folder / f"{Path(words[0]).name}.out", "wb") as log:
                daemons.append(subprocess.Popen(words, env=os.environ | env, stdout=log, stderr=log))
            time.sleep(1)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            state = subprocess.run(["sinfo", "-h", "-o", "%T"], env=os.environ | env, text=True, capture_output=True)
            if "idle" in state.stdout:
                break
            time.sleep(0.5)
        said = {path.name: path.read_text(errors="replace")[-500:] for path in folder.glob("*.out")}
        assert "idle" in state.stdout, (state, said)
        yield env
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_slurm_array_and_dependent_merge_with_a_shard_that_is_killed_and_repeated(place, slurm):
    # The second shard waits for a file before it begins, so that it is there to be killed.
    (place / "sweep.sbatch").write_text(block("sweep.sbatch").replace(
        "adamas replay", 'while [ "$SLURM_ARRAY_TASK_ID" = 2 ] && [ ! -e go ]; do sleep 0.1; done\nadamas replay', 1))
    (place / "shards").mkdir()
    killer = ('sweep=$(sbatch --parsable sweep.sbatch)\n'
              'until squeue -h -t R -o %i | grep -q "^${sweep}_2$"; do sleep 0.2; done\n'
              'ok=$(sbatch --parsable --output=ok.log --dependency="afterok:$sweep" --wrap true)\n'
              'after=$(sbatch --parsable --output=merge.log --dependency="afterany:$sweep" --wrap '
              "'adamas db merge shards --db sweep.db')\n"
              'scancel --signal=KILL --full "${sweep}_2"\n'
              'while squeue -h -o %i | grep -q "^$after"; do sleep 0.2; done\n'
              'squeue -h -j "$ok" -o %r; scancel "$ok"\n')
    assert "afterany:$sweep" in block("slurm") and "adamas db merge shards --db sweep.db" in block("slurm")
    result = run(place, killer, slurm)
    assert result.returncode == 0, result
    assert "DependencyNeverSatisfied" in result.stdout, result  # afterok waits for ever
    log = (place / "merge.log").read_text()
    assert "2 of 3 are in run 1" in log and "shard 2 of 3 is missing" in log, log
    assert query(place / "sweep.db", RUNS) == [("interrupted", 3, 2)]
    (place / "go").touch()
    result = run(place, block("slurm-again"), slurm)
    assert result.returncode == 0 and "3 of 3 are in run 1" in result.stdout, result
    assert query(place / "sweep.db", RUNS) == [("complete", 3, 3)]


def test_slurm_as_it_stands(place, slurm):
    (place / "sweep.sbatch").write_text(block("sweep.sbatch"))
    result = run(place, block("slurm"), slurm)
    assert result.returncode == 0, (result, (place / "merge.log").read_text())
    assert "3 of 3 are in run 1" in (place / "merge.log").read_text()
    assert query(place / "sweep.db", RUNS) == [("complete", 3, 3)]


def test_submitit(place, slurm):
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("not installed: submitit; pip install submitit==1.5.4 brings it")
    (place / "shards").mkdir()
    (place / "sweep.py").write_text(block("submitit"))
    result = run(place, f"{sys.executable} sweep.py", slurm)
    assert result.returncode == 0 and "[0, 0, 0]" in result.stdout and "3 of 3 are in run 1" in result.stdout, result


# ---------------------------------------------------------------- manifests

def validator(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"not installed: {package}; pip brings it")
    return importlib.import_module(package)


def test_the_kubernetes_job_is_what_the_api_takes():
    kubernetes_validate = validator("kubernetes_validate")
    import yaml
    manifest = yaml.safe_load(block("job.yaml"))
    kubernetes_validate.validate(manifest, "1.33", strict=True)
    wrong = manifest | {"spec": manifest["spec"] | {"completion": 16}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


def test_the_batch_job_is_what_the_api_takes():
    validator("botocore")
    import botocore.session
    from botocore.validate import ParamValidator
    shape = botocore.session.get_session().get_service_model("batch").operation_model("SubmitJob").input_shape
    manifest = json.loads(block("batch.json"))
    assert not ParamValidator().validate(manifest, shape).has_errors()
    assert ParamValidator().validate(manifest | {"arrayProperties": {"sise": 16}}, shape).has_errors()


@pytest.mark.parametrize("name, variable", [("job.yaml", "JOB_COMPLETION_INDEX"), ("batch.json", "AWS_BATCH_JOB_ARRAY_INDEX")])
def test_the_shell_line_of_a_manifest_runs_its_shard(place, name, variable):
    """The line between "adamas" and the end, by sh, for a first and a last index; of 16 shards most have no length here."""
    line = re.search(r'adamas replay .*?\.db', block(name))[0].replace("/sweep/", "")
    (place / "shards").mkdir()
    for index in (0, 15):
        result = run(place, f"{line} --seq-lens 1024", {variable: str(index)}, "sh")
        assert result.returncode == 0, result
        assert query(place / f"shards/{index}.db", "SELECT shard, n_shards, status FROM run") == [(index + 1, 16, "complete")]
