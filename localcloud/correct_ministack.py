"""Corrects ministack where it differs from AWS in a way that iamkeys would notice. Each function says how AWS differs."""

import contextvars
import functools
import json
from datetime import datetime, timezone


def everything():
    correct_credentials()
    correct_start_execution()
    correct_succeed()
    correct_assign()
    correct_distributed_map()
    correct_scheduler()
    correct_destination()


def correct_credentials():
    """A function signs as its role: its session token is the role's ARN, by which access.py knows it.

    ministack gives all functions of an account the same credentials; the key ID stays the account's, by which it tells accounts apart.
    """
    from ministack.core import lambda_runtime
    from ministack.services import lambda_svc

    ministack_credentials = lambda_runtime.execution_credentials

    @functools.wraps(ministack_credentials)
    def execution_credentials(config):
        return ministack_credentials(config) | {"AWS_SESSION_TOKEN": config.get("Role", "")}

    lambda_runtime.execution_credentials = execution_credentials
    lambda_svc.execution_credentials = execution_credentials


def correct_start_execution():
    """Starting an execution twice.

    AWS answers a start with the name and input of one that still runs as it answered the first; ministack refuses it.
    In a workflow, AWS names the refusals of states:startExecution StepFunctions.<code>Exception; ministack has the bare code.
    """
    from ministack.core.responses import json_response
    from ministack.services import stepfunctions

    ministack_start = stepfunctions._start_execution
    ministack_nested = stepfunctions._invoke_nested_start_execution

    @functools.wraps(ministack_start)
    def start_execution(data):
        machine, name = data.get("stateMachineArn", ""), data.get("name")
        there = stepfunctions._executions.get(f"{machine.replace(':stateMachine:', ':execution:')}:{name}") if name else None
        if there and there["status"] == "RUNNING" and there["input"] == data.get("input", "{}"):
            return json_response({"executionArn": there["executionArn"], "startDate": there["startDate"]})
        return ministack_start(data)

    @functools.wraps(ministack_nested)
    def nested_start_execution(resource, input_data):
        try:
            return ministack_nested(resource, input_data)
        except stepfunctions._ExecutionError as err:
            if "." not in err.error:
                err.error = f"StepFunctions.{err.error.removesuffix('Exception')}Exception"
            raise

    stepfunctions._start_execution = start_execution
    stepfunctions._invoke_nested_start_execution = nested_start_execution


def correct_succeed():
    """Output of a Succeed state in JSONata, which ministack ignores."""
    from ministack.services import stepfunctions

    ministack_output_path = stepfunctions._apply_output_path

    @functools.wraps(ministack_output_path)
    def apply_output_path(state_def, data, ctx=None):
        if state_def.get("Type") == "Succeed" and stepfunctions._state_query_language(state_def, ctx) == "JSONata":
            return stepfunctions._apply_jsonata_output(state_def, data, ctx, default=data)
        return ministack_output_path(state_def, data, ctx)

    stepfunctions._apply_output_path = apply_output_path


def correct_assign():
    """Assign of a catcher or a choice is in its state's language. ministack takes it to be in the machine's, and skips it where that is JSONPath."""
    from ministack.services import stepfunctions

    ministack_catcher, ministack_choice = stepfunctions._apply_catcher, stepfunctions._execute_choice

    @functools.wraps(ministack_catcher)
    def apply_catcher(catcher, raw_input, ctx, query_language, error_output):
        return ministack_catcher(catcher | {"QueryLanguage": query_language}, raw_input, ctx, query_language, error_output)

    @functools.wraps(ministack_choice)
    def execute_choice(state_def, raw_input, ctx=None):
        language = stepfunctions._state_query_language(state_def, ctx)
        choices = [choice | {"QueryLanguage": language} for choice in state_def.get("Choices", [])]
        return ministack_choice(state_def | {"Choices": choices}, raw_input, ctx)

    stepfunctions._apply_catcher = apply_catcher
    stepfunctions._execute_choice = execute_choice


def correct_distributed_map():
    """A Distributed Map in JSONata, of which ministack evaluates nothing; in JSONPath it ignores MaxConcurrencyPath and its like.

    Also: a child is an execution of its own, with its own name and input in the context object and no variables of its
    parent; a list that is no JSON array fails as States.ItemReaderFailed; and what failed has no place in the result.
    """
    from ministack.services import stepfunctions

    ministack_map = stepfunctions._run_distributed_map
    ministack_machine = stepfunctions._run_sub_machine
    evaluated = ("ItemReader", "Items", "ItemSelector", "Output", "Assign")
    numbers = ("MaxConcurrency", "ToleratedFailurePercentage", "ToleratedFailureCount")

    @functools.wraps(ministack_map)
    def run_distributed_map(state_def, raw_input, effective, iterator, execution, ctx):
        if stepfunctions._state_query_language(state_def, ctx) != "JSONata":
            plain = {k: v for k, v in state_def.items() if k.removesuffix("Path") not in numbers or k in numbers}
            for field in numbers:
                if field + "Path" in state_def:
                    plain[field] = stepfunctions._resolve_path_or_ctx(state_def[field + "Path"], effective, ctx)
            try:
                return ministack_map(plain, raw_input, effective, iterator, execution, ctx)
            except ValueError as err:  # of the list: what children raise does not come here
                raise stepfunctions._ExecutionError("States.ItemReaderFailed", f"Attempting to parse the file failed: {err}")

        def evaluate(value, context=ctx):
            return stepfunctions._apply_jsonata_template(value, raw_input, context)

        items = raw_input
        if "ItemReader" in state_def:
            items = read(evaluate(state_def["ItemReader"]), ctx)
        elif "Items" in state_def:
            items = stepfunctions._jsonata_state_field(state_def, "Items", "array", raw_input, ctx)
        if "ItemSelector" in state_def:
            items = [evaluate(state_def["ItemSelector"], ctx | {"Map": {"Item": {"Index": i, "Value": item}}}) for i, item in enumerate(items)]
        plain = {k: v for k, v in state_def.items() if k not in evaluated}
        for field in numbers:
            if field in plain:
                plain[field] = stepfunctions._jsonata_state_field(state_def, field, "number", raw_input, ctx)
        results, following = ministack_map(plain, raw_input, items, iterator, execution, ctx)
        results = [r for r in results if r is not None]
        output = stepfunctions._apply_jsonata_output(state_def, raw_input, ctx, result=results, default=results)
        stepfunctions._apply_state_assign(state_def, raw_input, ctx, result=results)
        return output, following

    def read(reader, ctx):
        try:
            items = stepfunctions._read_map_items(reader, {}, ctx)
        except ValueError as err:
            raise stepfunctions._ExecutionError("States.ItemReaderFailed", f"Attempting to parse the file failed: {err}")
        if not isinstance(items, list):
            raise stepfunctions._ExecutionError("States.ItemReaderFailed", "Attempting to map over non-iterable node.")
        return items

    @functools.wraps(ministack_machine)
    def run_sub_machine(states, start_at, input_data, execution, ctx):
        if execution.get("mapRunArn") and ctx["Execution"]["Id"] != execution["executionArn"]:
            ctx["Execution"] = {
                "Id": execution["executionArn"], "Input": input_data, "Name": execution["name"], "StartTime": execution["startDate"],
            }
            ctx["variables"] = {}
        return ministack_machine(states, start_at, input_data, execution, ctx)

    stepfunctions._run_distributed_map = run_distributed_map
    stepfunctions._run_sub_machine = run_sub_machine


def correct_scheduler():
    """The words that EventBridge Scheduler replaces in a target's Input, as <aws.scheduler.scheduled-time>; ministack sends them as they are.

    It looks at its schedules each second, not each tenth one, so that less is waited for.
    """
    from ministack.services import eventbridge, scheduler

    ministack_invoke = eventbridge._invoke_target

    @functools.wraps(ministack_invoke)
    def invoke_target(target, event, rule, view=None):
        if event.get("Source") == "aws.scheduler" and target.get("Input"):
            words = {
                "scheduled-time": datetime.fromtimestamp(int(event["Time"]), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "schedule-arn": event["Resources"][0],
                "execution-id": event["EventId"],
                "attempt-number": "1",
            }
            for word, value in words.items():
                target = target | {"Input": target["Input"].replace(f"<aws.scheduler.{word}>", value)}
        return ministack_invoke(target, event, rule, view)

    eventbridge._invoke_target = invoke_target
    scheduler._SCHEDULE_TICK_INTERVAL = 1


def correct_destination():
    """What a function answers that was invoked asynchronously goes to its destination on success, where that is a function; ministack knows destinations on failure alone.

    EventBridge and its Scheduler invoke functions asynchronously; ministack then knows of neither destination, and of no retry.
    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    from ministack.services import eventbridge, lambda_svc

    ministack_asynchronous, ministack_execute = lambda_svc.invoke_async_with_retry, lambda_svc._execute_function
    waits_for_destination = contextvars.ContextVar("waits_for_destination", default=False)  # of a thread of invoke_async_with_retry

    @functools.wraps(ministack_asynchronous)
    def invoke_async_with_retry(func, event):
        before = waits_for_destination.set(True)
        try:
            ministack_asynchronous(func, event)
        finally:
            waits_for_destination.reset(before)

    @functools.wraps(ministack_execute)
    def execute_function(func, event):
        before = waits_for_destination.get()
        waits_for_destination.set(False)
        result = ministack_execute(func, event)
        waits_for_destination.set(before)
        if before and not result.get("error"):
            succeeded(func, event, result)
        return result

    def succeeded(func, event, result):
        config = (func.get("event_invoke_configs") or {}).get("$LATEST") or func.get("event_invoke_config") or {}
        target = ((config.get("DestinationConfig") or {}).get("OnSuccess") or {}).get("Destination", "")
        if ":lambda:" not in target:
            return
        body = result.get("body")
        record = {
            "version": "1.0",
            "timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "requestContext": {
                "requestId": lambda_svc.new_uuid(), "functionArn": func["config"]["FunctionArn"] + ":$LATEST", "condition": "Success", "approximateInvokeCount": 1,
            },
            "requestPayload": event,
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
            "responsePayload": json.loads(body) if isinstance(body, (str, bytes)) else body,
        }
        dispatch_to_lambda(target, json.dumps(record))

    def dispatch_to_lambda(arn, payload):
        func, config, _ = lambda_svc._get_func_record_for_ref(arn)
        if func and config:
            lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(func, config), json.loads(payload))

    lambda_svc.invoke_async_with_retry = invoke_async_with_retry
    lambda_svc._execute_function = execute_function
    eventbridge._dispatch_to_lambda = dispatch_to_lambda
