"""What each key of a study means, for the JSON schema that editors show; docs/optimize.md says it at length."""

from __future__ import annotations

from profiles.schemas import Words
from sim.words import KV_TRANSFER, SHARED

_UNIT = {
    "gpu": "a GPU of the catalogue",
    "host": "the unit, a server with its GPUs; left out: every host the GPU is sold in",
    "tp": "GPUs of an instance that may be chosen; left out: every tp there is a profile for",
    "max_batch": "most sequences in an instance that may be chosen",
    "clocks": "SM clocks that may be chosen, shares of the full one",
    "precisions": "numeric formats that may be chosen; left out: the study's",
    "roles": "both, prefill, decode: what an instance may do",
    "resale_per_year": "share of its price that a unit keeps every year; it may then be sold in any year",
}
_SOURCE = {
    "model": "an LLM of the catalogue",
    "trace": "a trace file; this, generator or buckets",
    "generator": "a trace made by rule",
    "buckets": "classes of requests with their shares",
    "rate_per_s": "mean requests per second; left out: the trace's or the generator's own",
    "growth_per_year": "the rate grows by this share every year",
    "shape": "how the rate spreads over the day",
    "peak_quantile": "quantile of one-minute arrivals that capacity must carry",
    "prompt_edges": "prompt lengths in tokens at which a trace is cut into classes",
    "output_edges": "output lengths in tokens at which a trace is cut into classes",
    "name": "name of the stream",
    "slo": "limits on latency of this stream; left out: the study's",
}
STUDY: Words = SHARED | {
    "Study": {
        "name": "a name for the plan",
        "demand": "who asks for what, and how often",
        "slo": "limits on latency; left out: none",
        "limits": "what the whole plan may cost, emit and buy",
        "reserve": "what is held back for the unexpected",
        "kv_transfer": "the link between who prefills and who decodes; needed with roles",
        "discount_rate": "a dollar a year later counts for this share less",
        "sites": "where units may stand",
        "catalogue": "units that can be bought",
        "owned": "units that are there already; their embodied carbon and price are sunk",
        "objective": "what is least: grams, dollars (with priced carbon), or joules",
        "carbon_price_usd_per_t": "USD per tonne of CO2e, added to the dollars of objective: cost",
        "start": "the year from here on stands for every year of the horizon, ISO 8601",
        "align": "recur: outside a grid series take the same month, weekday class and hour of another year",
        "horizon_years": "years the plan is made for",
        "slices": "day: 24 typical hours; seasons: those of weekdays and weekends of four seasons",
        "purchase_years": "years of the study, from 0, in which units may be bought",
        "by_year": "tell the years apart; left out: where purchases, growth or a trend need it",
        "futures": "ways things may go: one purchase for all of them, a dispatch for each",
        "reconfigure": "tp and batch of a unit may change by the hour, at no cost",
        "accounting": "the rules of the books",
        "safe_utilisation": "share of full-load instance time that may be planned, in the peak too",
        "slo_share": "share of requests that must keep every limit in the replay",
        "precision": "numeric format; picks the profiles",
        "engine": "serving engine; picks the profiles where several fit",
        "profiles": "folders or files of profiles, used before the shipped ones",
        "predict": "predict profiles that are missing, with their tier and band",
        "own_catalog": "folder with a gpus.csv, hosts.csv or llms.csv of your own beside the shipped ones",
        "time_limit_s": "seconds after which a solve stops with the best it has found",
        "gap": "relative distance to the bound at which a solve may stop",
        "seed": "seed of whatever is drawn",
    },
    "Demand": _SOURCE | {"streams": "several streams of requests, each with a model and limits of its own"},
    "Source": _SOURCE,
    "Bucket": {
        "prompt_tokens": "tokens in",
        "output_tokens": "tokens out",
        "share": "share of all requests, beside the other buckets'",
    },
    "StudySite": SHARED["Site"]
    | {
        "max_gpus": "GPUs that find room",
        "max_units": "hosts that find room in its racks",
        "max_drawn_w": "watts really drawn in any hour and in the peak, PUE included",
        "intensity_by_year": "each year's intensity over that of the series; instead of a trend",
        "price_trend_per_year": "the electricity price changes by this share every year",
        "demand_charge_usd_per_kw_month": "USD per kW and month, paid on the highest hourly mean",
        "max_power_w": "watts of IT power by nameplate: GPUs at TDP plus hosts",
        "intensity_trend_per_year": "the intensity changes by this share every year; -0.03: three per cent less",
    },
    "Offer": _UNIT
    | {
        "tenure": "bought, leased by the year, or rented by the hour as the load asks for it",
        "price_usd": "USD of one whole unit, paid when it is bought",
        "units_by_year": "most units that can be had in each year of the study",
        "lead_time_years": "years from the order to the first request",
        "max_units": "most units over all sites",
        "price_usd_per_h": "USD per hour of one whole unit, rent or purchase spread over its life",
        "sites": "names of the sites where it may stand; left out: all",
        "from_year": "year of the study before which it cannot be had",
        "usable_years": "years of use after purchase; left out: to the horizon's end",
    },
    "Owned": _UNIT
    | {
        "site": "name of the site where it stands",
        "units": "how many there are",
        "resale_usd": "USD that one unit is worth today",
        "usable_years": "years of use from the study's start; left out: to the horizon's end",
    },
    "Limits": {
        "budget_usd": "most USD over the horizon",
        "carbon_t": "most tonnes of CO2e over the horizon",
        "units": "most units that may be bought",
    },
    "Reserve": {
        "headroom": "share of capacity left free beyond the peak",
        "spare_units": "units beyond the load wherever a type is used",
        "lose_site": "the others carry everything when any one site is lost",
    },
    "KvTransfer": KV_TRANSFER,
    "Future": {
        "name": "name of the future",
        "demand": "factor on the request rate",
        "intensity": "factor on every grid's intensity",
        "weight": "how likely it is, beside the others",
    },
}
