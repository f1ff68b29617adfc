"""The provider's side of Pulumi's protocol: reads each call, hands it to the handler of its type, writes the answer.

Every method is a thin turn between messages and plain values. Replacing always deletes first: a machine that was made
under its key before the old one went would be the old one.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf import empty_pb2
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from grafos_connectors.contract import Kind
from grafos_core.errors import GrafosError
from grafos_stacks.pulumi.answers import UnfinishedError, leave_unfinished, refuse, told
from grafos_stacks.pulumi.bench import Bench
from grafos_stacks.pulumi.codec import Properties, decode, encode
from grafos_stacks.pulumi.handlers import Had, Handler, asker_of
from grafos_stacks.pulumi.handovers import Handovers
from grafos_stacks.pulumi.parts import Parts
from grafos_stacks.pulumi.plans import Plans
from grafos_stacks.pulumi.schema import HANDOVER, PLAN, SETTINGS, schema, token_of_kind

ENGINE_SETTINGS = ("version", "pluginDownloadURL", "pluginChecksums", "__internal")
"""What an engine itself puts among a provider's settings."""

Answer = TypeVar("Answer")


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """Serves one engine; calls come in many threads. ``version`` is grafos' own."""

    def __init__(self, bench: Bench, version: str, log: Callable[[str], object]) -> None:
        self._bench, self._version, self._log = bench, version, log
        parts: dict[str, Handler] = {token_of_kind(kind): Parts(bench, kind) for kind in Kind}
        self._handlers: dict[str, Handler] = {PLAN: Plans(bench), HANDOVER: Handovers(bench), **parts}

    # --- who we are ---------------------------------------------------------------------------------------------

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002  names and shapes are the protocol's
        """The first call of an engine that knows it."""
        self._bench.resume()
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Another engine's run begins on a provider that is running."""
        self._bench.resume()
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Our version."""
        return plugin_pb2.PluginInfo(version=self._version)

    def GetSchema(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """What there is."""
        return provider_pb2.GetSchemaResponse(schema=schema())

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Settings are for the program; the provider needs none, and what may be a credential is refused."""
        known = {*SETTINGS, *ENGINE_SETTINGS}
        failures = [
            provider_pb2.CheckFailure(
                property=name,
                reason=f"grafos:{name} is no setting of grafos. Credentials belong to the cloud's own tools, not here.",
            )
            for name in request.news.fields
            if name not in known
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """No setting changes what the provider is."""
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """A run begins."""
        self._bench.resume()
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Nobody waits any more. Comes at the end of every run, also of those that went well."""
        self._bench.stop()
        return empty_pb2.Empty()

    # --- resources ----------------------------------------------------------------------------------------------

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Inputs that are wrong are told as failures; the engine then changes nothing at all."""
        handler, new = self._handler(request, context), decode(request.news)
        self._bench.has_program = True
        failures = []
        try:
            handler.check(asker_of(request.urn), decode(request.olds), new)
        except GrafosError as error:
            failures = [provider_pb2.CheckFailure(property=_property(error, new), reason=told(error))]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Which inputs differ, and which of them mean another resource."""
        handler, new = self._handler(request, context), decode(request.news)
        new = Properties({n: v for n, v in new.values.items() if n not in request.ignoreChanges}, new.secrets)
        old = {n: v for n, v in decode(request.old_inputs).values.items() if n not in request.ignoreChanges}
        change = handler.change(decode(request.olds).values, old, new)
        kinds = provider_pb2.PropertyDiff.Kind
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if change.changed else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=change.changed,
            replaces=change.replacing,
            deleteBeforeReplace=True,
            hasDetailedDiff=True,
            detailedDiff={
                name: provider_pb2.PropertyDiff(
                    kind=kinds.UPDATE_REPLACE if name in change.replacing else kinds.UPDATE, inputDiff=True
                )
                for name in change.changed
            },
        )

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Makes or adopts."""
        handler, new = self._handler(request, context), decode(request.properties)
        asker = asker_of(request.urn)
        made = self._done(context, new, lambda: handler.create(asker, new, preview=request.preview))
        return provider_pb2.CreateResponse(
            id=made.id, properties=_sealed(made, new), refresh_before_update=not request.preview
        )

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        """An answer without an id means that it is gone."""
        handler, state, inputs = self._handler(request, context), decode(request.properties), decode(request.inputs)
        asker, had = asker_of(request.urn), Had(request.id, state.values)
        found = self._done(context, state, lambda: handler.read(asker, had, inputs.values))
        if found is None:
            return provider_pb2.ReadResponse()
        return provider_pb2.ReadResponse(
            id=found.id, properties=_sealed(found, state), inputs=request.inputs, refresh_before_update=True
        )

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Changes in place, or goes on with what was not finished."""
        handler, new = self._handler(request, context), decode(request.news)
        asker, had = asker_of(request.urn), Had(request.id, decode(request.olds).values)
        made = self._done(context, new, lambda: handler.update(asker, had, new, preview=request.preview))
        return provider_pb2.UpdateResponse(properties=_sealed(made, new), refresh_before_update=not request.preview)

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Ends it."""
        handler, state = self._handler(request, context), decode(request.properties)
        asker, had = asker_of(request.urn), Had(request.id, state.values)
        self._done(context, state, lambda: handler.delete(asker, had))
        return empty_pb2.Empty()

    def List(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        """All that is known of a type."""
        handler = self._handlers.get(request.token)
        if handler is None:
            refuse(context, _no_type(request.token))
        found = self._done(context, Properties({}), handler.list)
        most = request.limit if request.limit > 0 else len(found)
        for id_, name in found[:most]:
            yield provider_pb2.ListResponse(result=provider_pb2.ListResponse.Result(id=id_, name=name))

    # --- the turn -----------------------------------------------------------------------------------------------

    def _handler(self, request: Any, context: Any) -> Handler:
        kind = request.type or request.urn.split("::")[2].split("$")[-1]
        if kind not in self._handlers:
            refuse(context, _no_type(kind))
        return self._handlers[kind]

    def _done(self, context: Any, given: Properties, act: Callable[[], Answer]) -> Answer:
        """What the act gives, or its error as the engine takes it. What nobody foresaw is told without its values."""
        try:
            return act()
        except UnfinishedError as left:
            leave_unfinished(context, left, sorted(given.secrets))
        except GrafosError as error:
            refuse(context, error)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._log(f"{type(error).__name__} in {where.name}, {where.filename}:{where.lineno}")
            context.abort(grpc.StatusCode.INTERNAL, f"a bug in grafos: {type(error).__name__} in {where.name}")
            raise AssertionError("abort raises") from error


def _sealed(made: Had, given: Properties) -> Struct:
    """Outputs; what was given as a secret stays one, under whichever name it, or a text with it inside, comes back."""
    texts = [str(given.values[name]) for name in given.secrets if name in given.values]
    repeating = {name for name, value in made.outputs.items() if any(text and text in str(value) for text in texts)}
    return encode(made.outputs, given.secrets | repeating)


def _property(error: GrafosError, new: Properties) -> str:
    """The input that an error is about, as far as it names one."""
    named = error.where.replace(" ", "")
    return next((name for name in new.values if name.lower() == named.lower()), "")


def _no_type(kind: str) -> GrafosError:
    return GrafosError(
        "unsupported", f"there is no resource type {kind!r}", next="see: pulumi package get-schema grafos"
    )
