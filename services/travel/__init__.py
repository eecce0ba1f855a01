"""The second reference flow: a trip with three bookings side by side, an approval that escalates, and child flows."""
