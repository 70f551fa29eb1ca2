"""What a GitHub workflow and a shell block in a document may say. Not actionlint, which no package index has as a program that
runs without a download; the cases that a document of ours can get wrong, and where actionlint is in PATH the tests run it too.
"""
import re
import subprocess

WORKFLOW = {"name", "run-name", "on", "permissions", "env", "defaults", "concurrency", "jobs"}
EVENTS = {"push", "pull_request", "pull_request_target", "schedule", "workflow_dispatch", "workflow_call", "release",
          "merge_group"}
JOB = {"name", "permissions", "needs", "if", "runs-on", "environment", "concurrency", "outputs", "env", "defaults", "steps",
       "timeout-minutes", "strategy", "continue-on-error", "container", "services", "uses", "with", "secrets"}
STEP = {"id", "if", "name", "uses", "run", "working-directory", "shell", "with", "env", "continue-on-error", "timeout-minutes"}
CONTEXTS = {"github", "env", "vars", "job", "jobs", "steps", "runner", "secrets", "strategy", "matrix", "needs", "inputs"}
FUNCTIONS = {"contains", "startsWith", "endsWith", "format", "join", "toJSON", "fromJSON", "hashFiles", "success", "always",
             "cancelled", "failure"}
GITLAB_JOB = {"image", "variables", "script", "before_script", "after_script", "allow_failure", "artifacts", "rules", "tags",
              "needs", "stage", "cache", "services", "timeout", "retry", "parallel", "interruptible"}

# Environment variables that whoever runs a block gives to it: the shell's, a CI's, and those of other programs.
KNOWN = set("""
    HOME PWD OLDPWD PATH TMPDIR USER SHELL LANG RANDOM LINENO BASH_SOURCE PIPESTATUS IFS
    GITHUB_STEP_SUMMARY GITHUB_OUTPUT GITHUB_ENV GITHUB_PATH GITHUB_SHA GITHUB_REF GITHUB_REF_NAME GITHUB_BASE_REF
    GITHUB_HEAD_REF GITHUB_RUN_ID GITHUB_WORKSPACE GITHUB_REPOSITORY GITHUB_TOKEN RUNNER_TEMP RUNNER_OS CI
    CI_COMMIT_SHA CI_COMMIT_BEFORE_SHA CI_MERGE_REQUEST_DIFF_BASE_SHA
    CI_COMMIT_BRANCH CI_DEFAULT_BRANCH CI_MERGE_REQUEST_TARGET_BRANCH_NAME CI_PIPELINE_SOURCE CI_PROJECT_DIR
    SLURM_ARRAY_TASK_ID JOB_COMPLETION_INDEX AWS_BATCH_JOB_ARRAY_INDEX
    CC CXX CPPFLAGS CFLAGS CXXFLAGS LDFLAGS CUDA_HOME CUDA_PATH CUDA_VISIBLE_DEVICES LD_LIBRARY_PATH""".split())


def shell_faults(text, environment=()):
    """Sentences: bash does not parse it, or a variable is used that neither the block nor its surroundings set."""
    text = re.sub(r"\$\{\{.*?\}\}", "expression", text, flags=re.S)  # a workflow's, gone before a shell sees them
    said = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True).stderr
    if said:
        yield said.strip()
    bare = re.sub(r"(?<!\\)'[^']*'", "''", re.sub(r"(^|\s)#.*", "", text, flags=re.M))  # no comments, no single quotes
    made = set(re.findall(r"(?:^|[\s;(])(\w+)\+?=", text)) | set(re.findall(r"\bfor (\w+)\b", text))
    lists = re.findall(r"\b(?:read|local|export|declare)((?: -\w+)*(?: \w+)+)", text)
    made |= {name for names in lists for name in names.split()}
    for name in sorted(set(re.findall(r"(?<!\\)\$\{?[#!]?([A-Za-z_]\w*)", bare)) - made - KNOWN - set(environment)):
        yield f"${name} is set nowhere"


def expression_faults(text, where, ids=(), matrix=None, needs=()):
    """Of every expression in ${{ }}: unknown contexts and functions, and names that no earlier line gives."""
    for expression in re.findall(r"\$\{\{(.*?)\}\}", text, re.S):
        bare = re.sub(r"'(?:[^']|'')*'", "''", expression)
        for name, follows in re.findall(r"(?<![\w.-])([A-Za-z_][\w-]*)\s*([.(\[]?)", bare):
            if name in ("true", "false", "null"):
                continue
            if name not in (FUNCTIONS if follows == "(" else CONTEXTS):
                yield f"{where}: {name} is no {'function' if follows == '(' else 'context'}"
        for context, given in (("steps", ids), ("needs", needs), ("matrix", matrix)):
            for name in re.findall(rf"(?<![\w.-]){context}\.([\w-]+)", bare):
                if given is not None and name not in given:
                    yield f"{where}: {context}.{name} is nowhere before"


def strings(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def unknown(keys, known, where):
    return [f"{where}: unknown key {key!r}" for key in keys if key not in known]


def step_faults(step, where, environment, **names):
    yield from unknown(step, STEP, where)
    if ("uses" in step) == ("run" in step):
        yield f"{where}: needs either uses or run"
    if "uses" in step and not re.fullmatch(r"(?:[\w.-]+/[\w./-]+@[\w./-]+|\./[\w./-]+|docker://\S+)", step["uses"]):
        yield f"{where}: {step['uses']!r} names no action with its version"
    if "with" in step and "uses" not in step:
        yield f"{where}: with belongs to uses"
    condition = str(step.get("if", ""))
    for text in [*strings(step), *([f"${{{{ {condition} }}}}"] if condition and "${{" not in condition else [])]:
        yield from expression_faults(text, where, **names)
    if "run" in step:
        for fault in shell_faults(step["run"], {*environment, *step.get("env", {})}):
            yield f"{where}: {fault}"


def workflow_faults(document):
    """Sentences about a parsed GitHub workflow. YAML reads the key `on` as true."""
    document = {("on" if key is True else key): value for key, value in document.items()}
    yield from unknown(document, WORKFLOW, "workflow")
    events = document.get("on", [])
    yield from unknown([events] if isinstance(events, str) else events, EVENTS, "on")
    if not events:
        yield "workflow: on is missing"
    jobs = document.get("jobs") or {}
    if not jobs:
        yield "workflow: jobs is missing"
    for job_name, job in jobs.items():
        yield from unknown(job, JOB, job_name)
        if "uses" not in job and not ("runs-on" in job and job.get("steps")):
            yield f"{job_name}: needs runs-on and steps"
        needs = job.get("needs", [])
        needs = [needs] if isinstance(needs, str) else needs
        yield from [f"{job_name}: needs {name!r}, which is no job" for name in needs if name not in jobs]
        environment = {**document.get("env", {}), **job.get("env", {})}
        matrix, ids = (job.get("strategy") or {}).get("matrix", {}), []
        for number, step in enumerate(job.get("steps") or [], 1):
            yield from step_faults(step, f"{job_name}, step {number}", environment, ids=ids, matrix=matrix, needs=needs)
            ids += [step["id"]] if "id" in step else []


def gitlab_faults(document):
    """Sentences about a parsed GitLab pipeline of jobs."""
    for name, job in document.items():
        if not isinstance(job, dict):
            continue
        yield from unknown(job, GITLAB_JOB, name)
        if not job.get("script"):
            yield f"{name}: script is missing"
        script = "\n".join(map(str, job.get("script") or []))  # one shell runs all of it
        for fault in shell_faults(script, job.get("variables", {})):
            yield f"{name}: {fault}"
