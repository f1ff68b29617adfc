"""The shape of each command's JSON document, by the command's words. Several shapes stand in a tuple; the first is the
one whose list streams."""

from __future__ import annotations

from grafos_cell.module import Finding as ModuleFinding
from grafos_cli.checkups.findings import Finding
from grafos_cli.local_state import LocalFabric
from grafos_cli.schemas import (
    ANY,
    COUNT,
    ERROR,
    MOMENT,
    NUMBER,
    TEXT,
    YES_NO,
    Schema,
    listed,
    mapped,
    of,
    or_none,
    record,
)
from grafos_connectors.pricing.table import PriceRow
from grafos_connectors.uploads import Filled
from grafos_core.audit_chain import AuditRecord
from grafos_core.receipts import Inventory, RunReceipt, Signed, TeardownReceipt
from grafos_core.resources import Resources
from grafos_scheduler.account_messages import AccountView
from grafos_scheduler.audit_messages import AuditPage
from grafos_scheduler.cells import SIGNALS
from grafos_scheduler.enrolment_messages import AttestationRootsView, IdentityView, ProviderView
from grafos_scheduler.image_messages import ImageDemandView
from grafos_scheduler.lease_messages import LeaseView
from grafos_scheduler.messages import Admission, Conformance, RunView, TenantView
from grafos_scheduler.region_messages import RegionView
from grafos_scheduler.reservation_messages import ReservationView
from grafos_scheduler.service_messages import InstanceLogView, ServiceView
from grafos_scheduler.standing_messages import Offer
from grafos_stacks.costs import Budget, CellCost, Sum
from grafos_stacks.journal import Move
from grafos_stacks.orchestrators import OrchestratorRecord
from grafos_stacks.plan import StackPlan
from grafos_stacks.records import CellRecord

FAILED = record(texts="cell_id code what where why next", flags="retryable", context={"type": "object"})
FAILED_CLOUD = record(texts="provider code what where why next", flags="retryable", context={"type": "object"})
RUN = of(RunView)
TOLD_RUN = of(RunView, source=TEXT, fictional=YES_NO)
CELL = of(CellRecord)
SERVICE = of(ServiceView)
SILENT = listed(record(texts="scheduler url code what"))
"""Who could not be asked; what such a one has is missing from the list beside it."""
RECEIPT = of(TeardownReceipt, cost_cents=NUMBER, signed=of(Signed))
INVENTORY = of(Inventory, signed=of(Signed))
COSTS = listed(of(CellCost))
FICTIONAL = "fictional_held_micro_cents fictional_spent_micro_cents"
LEDGER = record(texts="standing keeper url")
BUDGET = record(
    budget=of(Budget, fictional_held_micro_cents=COUNT, fictional_spent_micro_cents=COUNT), ledger=LEDGER, cells=COSTS
)
KEPT_KEY = record(texts="name id")
PARTS = listed(record(texts="kind name state id"))
ORCHESTRATOR = of(OrchestratorRecord)
WIRE = mapped(TEXT)
EMULATOR = record(
    texts="endpoint account_id clock boot region price_note", counts="pid", moments="started_at now",
    clouds=listed(TEXT), environment=WIRE,
)  # fmt: skip
RULE = record(
    texts="provider operation",
    counts="times",
    numbers="probability",
    fault=record(texts="effect error", after_s=NUMBER, retry_after_s=or_none(NUMBER)),
    fields=mapped(TEXT),
)
CALL = record(
    texts="provider service action region token result request_id", counts="status", moments="at",
    flags="mutating dry_run",
)  # fmt: skip
REQUIRED = record(
    counts="cpu_cores lease_mem_bytes lease_block_bytes memory_bytes fuel", numbers="deadline_s", texts="tier"
)
PLAN = {
    "plan": of(
        StackPlan,
        rate_micro_cents_per_hour=COUNT,
        worst_case_micro_cents=COUNT,
        cpu_credits=TEXT,
        installs_at_first_boot=YES_NO,
        predicted_ways_s=mapped(NUMBER),
    ),
    "notes": listed(TEXT),
    "cell_ids": listed(TEXT),
    "candidates": listed(
        record(
            texts="provider region place machine_type",
            flags="spot",
            micro_cents_per_hour=or_none(COUNT),
            worst_case_micro_cents=or_none(COUNT),
            refusals=listed(ERROR),
        )
    ),
}
MOVES = listed(of(Move))
MADE = record(texts="cell_id", cell=or_none(CELL), moves=MOVES, error=or_none(ERROR))
PROVISIONED = (
    record(PLAN, flags="resumed dry_run", counts="most_micro_cents"),
    record(PLAN, flags="resumed", counts="most_micro_cents", texts="plan_file"),
    record(PLAN, flags="resumed", counts="most_micro_cents", cell=CELL, moves=MOVES),
    record(PLAN, flags="resumed", counts="most_micro_cents made failed", cells=listed(MADE)),
)
FROM_BAKE = record(
    PLAN, flags="resumed dry_run", counts="most_micro_cents",
    image=record(
        texts="sha256 arch published", counts="size_bytes held_micro_cents", moments="ends_at",
        steps=listed(record(texts="name how", numbers="seconds")),
    ),
)  # fmt: skip
"""What a cell takes whose image is made first."""
BY_PULUMI = record(texts="engine stack", flags="dry_run", changes=mapped(COUNT), outputs=ANY)
ACCOUNT = {
    "resources": listed(record(texts="state cell_id kind id region", flags="billable")),
    "unsettled": listed(record(texts="cell_id region")),
}
SWEPT = record(
    ACCOUNT,
    texts="provider account", counts="condemned", torn_down=listed(TEXT), failures=listed(FAILED),
    maybe="torn_down failures",
)  # fmt: skip
MODULE = record(
    texts="label sha256",
    flags="ok",
    counts="size_bytes",
    imports=listed(record(texts="module name kind type")),
    exports=listed(record(texts="name kind type")),
    memory_min_bytes=or_none(COUNT),
    memory_max_bytes=or_none(COUNT),
    findings=listed(of(ModuleFinding)),
)
TESTED = record(texts="state why tool text", counts="passed failed", numbers="seconds")
BUILT = record(texts="name module_sha256 source_sha256 toolchain path", counts="size_bytes")
MADE_COMMAND = record(
    texts="command group summary more next streams",
    examples=listed(TEXT),
    arguments=listed(record(texts="name takes default help", flags="required many")),
    options=listed(record(texts="name takes default help", flags="required many")),
)
LEFT = record(texts="provider kind id region state", flags="billable", tags=WIRE)
DEMO = record(
    texts="module_sha256", counts="resources left cost_micro_cents held_micro_cents", numbers="took_s",
    flags="emulated", answers=listed(record(texts="provider cell_id cost")),
)  # fmt: skip
TENANT = of(TenantView)
PERSON = of(AccountView)
WHO = record(texts="fabric tenant name")
WRITTEN = record(files=listed(TEXT), days=COUNT)
READINESS = record(flags=" ".join(SIGNALS))
SEEN_CELL = record(
    texts="cell_id provider region pattern scheduler image_sha256 image_veto",
    flags="ready draining",
    counts="rate_micro_cents_per_hour",
    moments="expires_at last_heartbeat_at",
    readiness=READINESS,
    reasons=mapped(TEXT),
    inventory=or_none(of(Resources)),
    leased=or_none(of(Resources)),
    conformance=or_none(of(Conformance)),
)
PROVIDER = record(
    texts="provider",
    flags="enabled ready production",
    readiness=READINESS,
    reasons=mapped(TEXT),
    cells=listed(SEEN_CELL),
)
EVENT = record(texts="kind name what cell_id detail", moments="at")
SAID = record(texts="program line")

IMAGE = record(
    texts="path sha256 arch suite lock_sha256 own_sha256 uki_sha256 contents_sha256 sbom_sha256 unsigned_sha256 "
    "relocked_from",
    counts="size_bytes uki_bytes", tools=mapped(TEXT), lock_changes=listed(TEXT),
)  # fmt: skip
"""One image of `cloud image`."""
PUBLICATION = record(
    texts="name provider region sha256 arch", counts="size_bytes held_micro_cents", moments="ends_at",
    price=record(counts="micro_cents_per_gib_month", texts="source as_of", flags="fictional"),
    parts=listed(record(texts="name how", counts="micro_cents")), excluded=listed(TEXT),
)  # fmt: skip
PUBLISHED = record(texts="name image_id", flags="was_there", filled=or_none(of(Filled)))
KEPT_IMAGE = record(
    texts="stack provider region digest state image_id arch", counts="rate_micro_cents_per_hour parts",
    moments="ends_at",
)  # fmt: skip


DOCUMENTS: dict[str, Schema | tuple[Schema, ...]] = {
    "new": record(texts="program language folder", files=listed(TEXT)),
    "tasklet build": record(texts="program", tasklets=listed(BUILT)),
    "validate": record(texts="report", flags="ok", modules=listed(MODULE), tests=TESTED, maybe="report"),
    "deploy plan": record(
        texts="program provider",
        flags="admitted",
        hold=or_none(of(Admission)),
        tasklets=listed(
            record(texts="name module_sha256", flags="built", requirements=REQUIRED, admission=of(Admission))
        ),
        considered=listed(record(texts="provider cell_id code what", flags="admits", counts="worst_case_micro_cents")),
    ),
    "deploy run": (
        record(texts="run_id cell_id state", run=RUN, response=ANY, considered=listed(of(Offer)), maybe="considered"),
        record(
            texts="program",
            counts="reserved_micro_cents spent_micro_cents",
            tasklets=listed(record(texts="name", counts="attempts", needs=listed(TEXT), run=RUN)),
            responses=mapped(ANY),
        ),
    ),
    "deploy ls": record(programs=listed(of(ReservationView, scheduler=TEXT)), silent=SILENT),
    "deploy cancel": record(program=of(ReservationView), runs=listed(RUN)),
    "artifacts": record(
        texts="source output_b64 log",
        run=RUN,
        response=ANY,
        files=listed(TEXT),
        receipt=of(RunReceipt),
        verified=listed(record(texts="name how")),
        maybe="receipt verified",
    ),
    "runs ls": record(runs=listed(TOLD_RUN), silent=SILENT),
    "runs show": record(run=TOLD_RUN),
    "runs logs": (
        record(texts="run_id state", lines=listed(TEXT)),
        record(texts="run_id state", line=or_none(TEXT)),
    ),
    "events": (record(events=listed(EVENT)), EVENT),
    "service deploy": record(services=listed(SERVICE)),
    "service ls": record(services=listed(SERVICE), silent=SILENT),
    "service show": record(service=SERVICE),
    "service scale": record(service=SERVICE),
    "service cutover": record(service=SERVICE),
    "service failover": record(service=SERVICE),
    "service rm": record(service=SERVICE),
    "service logs": record(logs=listed(of(InstanceLogView))),
    "service open": record(texts="url address service"),
    "runs cancel": record(run=RUN, was_under_way=YES_NO),
    "dev up": record(texts="how", local_fabric=of(LocalFabric)),
    "dev down": record(texts="set_aside discarded", flags="was_up kept", counts="runs_brought_home", left=listed(TEXT)),
    "dev logs": (record(lines=listed(SAID)), SAID),
    "dev watch": record(texts="tasklet", numbers="build_s run_s", run=or_none(RUN), response=ANY, error=or_none(ERROR)),
    "dev doctor": record(flags="healthy", findings=listed(record(texts="name why next", flags="ok"))),
    "cloud provision": (*PROVISIONED, FROM_BAKE, BY_PULUMI),
    "cloud apply": PROVISIONED,
    "cloud teardown": (
        record(receipt=or_none(RECEIPT), inventory=INVENTORY, maybe="inventory"),
        record(receipts=listed(RECEIPT), failures=listed(FAILED), inventories=listed(INVENTORY)),
        record(
            flags="dry_run",
            teardowns=listed(
                record(texts="cell_id provider region state", goes=PARTS, stays=PARTS, used_by=listed(TEXT))
            ),
        ),
    ),
    "cloud sweep": record(flags="deleted", accounts=listed(SWEPT), failures=listed(FAILED_CLOUD)),
    "cloud roll": record(
        cells=listed(
            record(
                texts="cell_id started_from successor starts_from state",
                counts="held_micro_cents",
                flags="begun",
                error=or_none(ERROR),
            )
        ),
        flags="done",
    ),
    "cloud recover": record(
        flags="done",
        cases=listed(record(texts="cell_id provider region action why note", error=or_none(ERROR), maybe="error note")),
        failures=listed(FAILED_CLOUD),
    ),
    "cloud claim": record(cell=CELL),
    "cloud handover": record(texts="cell_id before engine"),
    "cloud ls": record(cells=listed(CELL)),
    "cloud image bake": record(image=IMAGE, numbers="took_s"),
    "cloud image boot": record(image=IMAGE, texts="cell_id dress", numbers="took_s"),
    "cloud image lock refresh": record(texts="lock", changed=listed(TEXT)),
    "cloud image ls": (
        record(images=listed(IMAGE)),
        record(images=listed(KEPT_IMAGE), failures=listed(FAILED_CLOUD)),
    ),
    "cloud image publish": record(plan=PUBLICATION, published=or_none(PUBLISHED)),
    "cloud image rm": record(receipt=RECEIPT),
    "cloud image extend": record(texts="name", moments="ends_at ended_before", counts="held_micro_cents"),
    "cloud cost": record(
        cells=COSTS, sums=listed(of(Sum)), counts="total_micro_cents fictional_micro_cents", texts="note"
    ),
    "cloud extend": record(cell=CELL, moments="ended_before", flags="finished_earlier", counts="held_micro_cents"),
    "cloud allow": record(texts="cell_id allowed", counts="port"),
    "cloud bootstrap-cell": record(
        texts="cell_id provider region orchestrator",
        counts="rate_micro_cents_per_hour",
        moments="expires_at token_lapses_at",
        flags="enrolled",
        command=listed(TEXT),
    ),
    "cloud cell-agent": record(),
    "cloud show": record(
        cell=of(
            CellRecord,
            reached=TEXT,
            machine_state=TEXT,
            layers=listed(record(texts="by what", moments="at")),
            resources=PARTS,
            held_micro_cents=COUNT,
            extending_to=MOMENT,
            recorded=YES_NO,
            next=TEXT,
        )
    ),
    "cloud logs": (record(texts="cell_id", lines=listed(TEXT)), record(texts="cell_id line")),
    "cloud budget set": BUDGET,
    "cloud budget show": BUDGET,
    "cloud prices show": record(texts="file", prices=listed(of(PriceRow, state=TEXT))),
    "cloud prices refresh": record(
        texts="file",
        counts="kept",
        clouds=listed(record(texts="provider", flags="emulated", counts="kept", errors=listed(ERROR))),
    ),
    "fabric init": record(
        fabric=record(texts="name id home"),
        orchestrator=or_none(ORCHESTRATOR),
        texts="secret_file",
        command=listed(TEXT),
    ),
    "fabric claim": record(fabric=KEPT_KEY, orchestrator=ORCHESTRATOR, ledger=LEDGER),
    "fabric bring-home": record(ledger=LEDGER, counts="runs_counted_as_spent", notes=listed(TEXT)),
    "fabric up": (
        record(
            PLAN,
            flags="resumed restored",
            counts="most_micro_cents",
            orchestrator=ORCHESTRATOR,
            machine=CELL,
            ledger=LEDGER,
        ),
        record(PLAN, flags="resumed dry_run", counts="most_micro_cents"),
    ),
    "fabric down": record(
        receipt=or_none(RECEIPT),
        inventory=or_none(INVENTORY),
        cells=listed(TEXT),
        counts="runs_brought_home audit_records runs_counted_as_spent",
        texts="audit_file",
        notes=listed(TEXT),
    ),
    "fabric backup": record(texts="file orchestrator version store", counts="size_bytes", moments="made_at"),
    "fabric restore": record(texts="orchestrator folder version store", moments="made_at"),
    "fabric upgrade": record(texts="before after version", flags="changed"),
    "fabric console": record(texts="url code certificate_sha256 ca_file", moments="expires_at"),
    "fabric show": record(
        fabric=record(texts="name id home"),
        orchestrator=or_none(record(texts="name url")),
        ledger=LEDGER,
        accounts=listed(
            record(
                texts="name",
                counts=f"cap_micro_cents held_micro_cents spent_micro_cents free_micro_cents {FICTIONAL}",
            )
        ),
        cells=listed(record(texts="cell_id provider", flags="gone")),
    ),
    "fabric cells": record(cells=listed(SEEN_CELL)),
    "provider list": record(providers=listed(PROVIDER)),
    "provider status": PROVIDER,
    "provider conform": record(
        texts="cell_id provider",
        flags="recorded",
        counts="cost_micro_cents",
        conformance=of(Conformance),
        left_out=mapped(COUNT),
        wrong=listed(record(texts="case expected seen run_id")),
    ),
    "provider mark-production": record(provider=of(ProviderView)),
    "provider revoke-cell": record(identity=of(IdentityView)),
    "fabric key export": record(texts="file", fabric=KEPT_KEY),
    "fabric key import": record(fabric=record(texts="name id home")),
    "admin create-tenant": record(tenant=TENANT, files=record(texts="certificate key token")),
    "admin list-tenants": record(tenants=listed(of(TenantView, scheduler=TEXT)), silent=SILENT),
    "admin set-quota": record(tenant=TENANT),
    "admin set-tenant-budget": record(tenant=TENANT),
    "admin set-tenant-rules": record(tenant=TENANT),
    "admin delete-tenant": record(tenant=TENANT),
    "admin attestation-roots list": record(roots=listed(of(AttestationRootsView))),
    "admin attestation-roots set": record(roots=of(AttestationRootsView)),
    "admin cell-images show": record(demand=of(ImageDemandView)),
    "admin cell-images demand": record(demand=of(ImageDemandView)),
    "admin cell-images lift": record(demand=of(ImageDemandView)),
    "admin image-provenance": record(
        image=IMAGE, texts="fabric commit", packages=mapped(TEXT), counts="components", reproduced=or_none(YES_NO)
    ),
    "admin invite": record(texts="tenant name file invitation", moments="lapses_at"),
    "admin list-accounts": record(accounts=listed(PERSON)),
    "admin revoke-account": record(account=PERSON),
    "account login": record(account=WHO, texts="url home"),
    "account show": record(
        account=WHO,
        orchestrator=record(texts="name url"),
        texts="invited_by signing_key",
        tenant=TENANT,
        rights=listed(TEXT),
        moments="verified_at ends_at",
        flags="signs",
    ),
    "account verify": record(account=record(texts="tenant name"), texts="signing_key", moments="verified_at"),
    "account logout": record(account=or_none(WHO), flags="revoked"),
    "admin init-ca": WRITTEN,
    "admin issue-cert": WRITTEN,
    "admin issue-server-cert": WRITTEN,
    "admin audit-query": of(AuditPage, records=listed(of(AuditRecord)), verified=COUNT, anchor_sequence=or_none(COUNT)),
    "lease create": record(lease=of(RegionView)),
    "lease ls": record(leases=listed(of(RegionView)), silent=SILENT),
    "lease show": record(lease=of(RegionView)),
    "lease renew": record(lease=of(RegionView)),
    "lease rm": record(lease=of(RegionView)),
    "admin list-fenced-leases": record(leases=listed(of(LeaseView, provider=TEXT)), silent=SILENT),
    "admin unfence-lease": record(lease=of(LeaseView), cleared=YES_NO),
    "emulate up": record(started=YES_NO, emulator=EMULATOR),
    "emulate env": record(environment=WIRE),
    "emulate status": record(emulator=EMULATOR, machines=ANY, resources=listed(LEFT)),
    "emulate journal": record(calls=listed(CALL)),
    "emulate advance": record(now=MOMENT),
    "emulate down": record(ended=YES_NO),
    "emulate fault add": record(rules=listed(RULE)),
    "emulate fault ls": record(rules=listed(RULE)),
    "emulate fault clear": record(cleared=COUNT),
    "init": record(texts="program language folder run_id", numbers="took_s", commands=listed(TEXT), response=ANY),
    "doctor": record({"findings": listed(of(Finding)), "counts": mapped(COUNT)}),
    "demo": record(demo=DEMO),
    "about": record(
        versions=WIRE,
        system=WIRE,
        endpoints=WIRE,
        folders=WIRE,
        settings=listed(record(texts="name value origin")),
    ),
    "config show": record(settings=listed(record(texts="name value origin where"))),
    "config schema": record(config_schema={"type": "object"}),
    "completion": record(texts="shell script"),
    "describe": (
        record(
            commands=listed(MADE_COMMAND),
            global_options=listed(record(texts="option meaning")),
            exit_codes=listed(record(texts="meaning", counts="exit_code")),
        ),
        record(texts="markdown"),
        record(schema={"type": "object"}),
    ),
}
"""Every command has one; `dev watch` prints its document once a round. What follows prints its last shape, a line
each."""
