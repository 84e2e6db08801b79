-- Dimensions: the same who and what has one id, or its usage would stand on two lines.
SELECT array_agg(dimension_id) AS dimension_ids, model, team, project
FROM usage_dimension
GROUP BY
    model, team, project, environment, principal, credential_id, provider_name, deployment, region, operation_name,
    service_tier, variant, context_band, usage_source, outcome
HAVING count(*) > 1
