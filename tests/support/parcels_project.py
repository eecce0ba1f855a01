"""Parcels as a project on disk, for roles in processes of their own."""

from __future__ import annotations

from tests.support.parcels import Parcels

FLOWS = (f"{__name__}:order", f"{__name__}:parcel")

parcels = Parcels(window=4)
order, parcel = parcels.order, parcels.parcel
